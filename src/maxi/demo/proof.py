"""The demonstration and the proof: trials of the method on the miniature, with their records and their page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from maxi.config import Config
from maxi.demo.page import write_showcase
from maxi.demo.trial import FULL, SMALL, WITHOUT_TRAINING, run_trial
from maxi.files import note_options, read_json, write_json
from maxi.method.metrics import mean_interval, with_interval
from maxi.progress import Progress, bar
from maxi.settings import load_config
from maxi.studies.collection import Sizes

SMALL_BATCH = "train.batch_size=72"
"""With few videos: two steps an epoch with the 144 that are kept."""


def demo_config(overrides: tuple[str, ...] = (), **options: Any) -> Config:
    """Return the settings of `recipes/demo.yaml`, with changes."""
    return load_config(None, overrides, backbone="miniature", **options)


def demo(
    out: str | Path,
    *,
    seeds: int = 1,
    offset: int = 0,
    full: bool = False,
    validation: bool = False,
    overrides: tuple[str, ...] = (),
    sizes: Sizes | None = None,
    progress: Progress = bar,
) -> list[dict[str, Any]]:
    """Render, adapt, evaluate and report: write `out/results.json` and `out/report.html`, and return the records.

    Seeds are `offset`, `offset + 1`, ... With one seed the adapted model is trained on few videos; a `full`
    demonstration has more videos and also trains the shuffled control. Several seeds are the proof, which is full and
    trains every row. An interrupted demonstration goes on where it was. Raises MaxiError when `out` holds a
    demonstration with other options.
    """
    folder = Path(out)
    full = full or seeds > 1
    sizes = sizes or (FULL if full else SMALL)
    plan = {
        "seeds": seeds,
        "offset": offset,
        "validation": validation,
        "overrides": list(overrides),
        "sizes": sizes._asdict(),
        "control": full,
    }
    note_options(folder / "demo.json", plan)
    if not full:
        overrides = (SMALL_BATCH, *overrides)
    records: list[dict[str, Any]] = []
    facts = []
    for seed in range(offset, offset + seeds):
        config = demo_config(overrides, seed=seed)
        trial_records, trial_facts = run_trial(
            folder / f"seed-{seed}",
            seed,
            config,
            control=full,
            every_row=seeds > 1,
            validation=validation,
            sizes=sizes,
            progress=progress,
        )
        records += trial_records
        facts.append(trial_facts)
        write_json(folder / "results.json", records)
        write_json(folder / "facts.json", facts)
    write_showcase(
        folder, records, facts, summarise(records), compare(records), demo_config(overrides)
    )
    return records


def outcome(out: str | Path) -> Iterator[str]:
    """Yield what came out of a finished demonstration, some lines for the terminal."""
    folder = Path(out)
    records = read_json(folder / "results.json")
    rows = summarise(records)
    split = rows[0]["split"]
    on_known = {row["model"]: row for row in rows if row["split"] == "known"}
    n_names, n = records[0]["conditions"]["names"], rows[0]["n"]
    yield (
        f"{'model':24} {split:>10}   {'gain over frozen':20} {'known':>6}   "
        f"top-1 %; {split}: {n_names} names, {n:,} videos"
    )
    for row in (row for row in rows if row["split"] == split):
        gain = "" if row["model"] == "frozen" else with_interval(row["gain"], row["gain_interval"])
        known = on_known[row["model"]]["top1"]
        yield f"{row['model']:24} {row['top1']:10.1f}   {gain:20} {known:6.1f}"
    for row in compare(records):
        yield f"{row['model']} over {row['other']}, {row['split']}: {with_interval(row['gain'], row['interval'])}"
    yield f"report: {folder / 'report.html'}"


def compare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the differences of the proof beside those over frozen: in points of top-1, with 95 % intervals over seeds.

    They are: the adapted model over the names alone, over the better of the models without training, and over frozen on
    the same videos without the shift. For one seed there are none.
    """
    top1: dict[tuple[str, str], dict[int, float]] = {}  # by split and model, then by seed
    for record in records:
        by_seed = top1.setdefault((record["split"], record["model"]), {})
        by_seed[record["seed"]] = record["top1"]
    split = records[0]["split"]
    untrained = [model for model in WITHOUT_TRAINING if (split, model) in top1]
    pairs = [(split, "adapted", "names_only")]
    if untrained:
        better = max(untrained, key=lambda model: fmean(top1[split, model].values()))
        pairs.append((split, "adapted", better))
    pairs.append((f"{split}.plain", "adapted", "frozen"))
    rows = []
    for split, model, other in pairs:
        of_model, of_other = top1.get((split, model), {}), top1.get((split, other), {})
        seeds = sorted(of_model.keys() & of_other.keys())
        if len(seeds) > 1:
            gain, interval = _spread([of_model[seed] - of_other[seed] for seed in seeds])
            row = {"model": model, "other": other, "split": split}
            rows.append({**row, "gain": gain, "interval": interval})
    return rows


def summarise(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each split and model the mean top-1 and the mean gain over frozen, in points, with 95 % intervals.

    For several seeds the interval is Student's over the seeds; for one seed it is over its videos.
    """
    rows = []
    for split in dict.fromkeys(r["split"] for r in records):
        of_split = [r for r in records if r["split"] == split]
        frozen = {r["seed"]: r["top1"] for r in of_split if r["model"] == "frozen"}
        for model in dict.fromkeys(r["model"] for r in of_split):
            of_model = [r for r in of_split if r["model"] == model]
            row = {
                "model": model,
                "split": split,
                "seeds": len(of_model),
                "n": sum(r["n"] for r in of_model),
            }
            if len(of_model) > 1:
                row["top1"], interval = _spread([r["top1"] for r in of_model])
                row["interval"] = [max(0.0, interval[0]), min(100.0, interval[1])]
                gains = [r["top1"] - frozen[r["seed"]] for r in of_model]
                row["gain"], row["gain_interval"] = _spread(gains)
            else:
                row |= {"top1": of_model[0]["top1"], "interval": of_model[0]["top1_interval"]}
                gain = of_model[0].get("gain", {"gain": 0.0, "interval": [0.0, 0.0]})
                row["gain"], row["gain_interval"] = gain["gain"], gain["interval"]
            rows.append(row)
    return rows


def _spread(values: list[float]) -> tuple[float, list[float]]:
    """Return the mean of some values and its 95 % interval, rounded."""
    mean, low, high = mean_interval(values)
    return round(mean, 2), [round(low, 2), round(high, 2)]
