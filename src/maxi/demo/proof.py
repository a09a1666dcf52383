"""The demonstration and the proof: trials of the method on the miniature, their records and their page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from maxi.config import Config
from maxi.demo.page import write_showcase
from maxi.demo.trial import FULL, SMALL, WITHOUT_TRAINING, Sizes, run_trial
from maxi.errors import MaxiError
from maxi.files import read_json, write_json
from maxi.method.metrics import mean_interval, with_interval
from maxi.progress import Progress, bar
from maxi.settings import load_config


def demo_config(overrides: tuple[str, ...] = (), **options: Any) -> Config:
    """The settings of `recipes/demo.yaml`."""
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
    """Render, adapt, evaluate and report; returns the records of `out/results.json`, beside `out/report.html`.

    Seeds are `offset`, `offset + 1`, ...; one seed trains the adapted model on few videos, a `full` demonstration has
    more of them and also trains the shuffled control. Several seeds are the proof: full, with every row of it. Run
    again, it goes on where it was interrupted. Raises MaxiError when `out` holds a demonstration with other options.
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
    _check_same(folder / "demo.json", plan)
    records: list[dict[str, Any]] = []
    facts = []
    for seed in range(offset, offset + seeds):
        config = demo_config(overrides, seed=seed)
        of_trial, known = run_trial(
            folder / f"seed-{seed}",
            seed,
            config,
            control=full,
            every_row=seeds > 1,
            validation=validation,
            sizes=sizes,
            progress=progress,
        )
        records += of_trial
        facts.append(known)
        write_json(folder / "results.json", records)
        write_json(folder / "facts.json", facts)
    write_showcase(
        folder, records, facts, summarise(records), compare(records), demo_config(overrides)
    )
    return records


def outcome(out: str | Path) -> Iterator[str]:
    """What a finished demonstration came to, some lines for the terminal."""
    folder = Path(out)
    records = read_json(folder / "results.json")
    rows = summarise(records)
    split = rows[0]["split"]
    of_known = {row["model"]: row for row in rows if row["split"] == "known"}
    n_names, n = records[0]["conditions"]["names"], rows[0]["n"]
    yield (
        f"{'model':24} {split:>10}   {'gain over frozen':20} {'known':>6}   "
        f"top-1 %; {split}: {n_names} names, {n:,} videos"
    )
    for row in (row for row in rows if row["split"] == split):
        gain = "" if row["model"] == "frozen" else with_interval(row["gain"], row["gain_interval"])
        known = of_known[row["model"]]["top1"]
        yield f"{row['model']:24} {row['top1']:10.1f}   {gain:20} {known:6.1f}"
    for row in compare(records):
        yield f"{row['model']} over {row['other']}, {row['split']}: {with_interval(row['gain'], row['interval'])}"
    yield f"report: {folder / 'report.html'}"


def compare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences that the proof asks for beside those over frozen: top-1 points, paired by seed, with 95 % intervals.

    The adapted model over names alone, over the better of the models without training, and over frozen on the same
    videos without the shift. Empty for one seed.
    """
    table: dict[tuple[str, str], dict[int, float]] = {}
    for r in records:
        table.setdefault((r["split"], r["model"]), {})[r["seed"]] = r["top1"]
    split = records[0]["split"]
    without = [m for m in WITHOUT_TRAINING if (split, m) in table]
    pairs = [(split, "adapted", "names_only")]
    if without:
        better = max(without, key=lambda m: fmean(table[split, m].values()))
        pairs.append((split, "adapted", better))
    pairs.append((f"{split}.plain", "adapted", "frozen"))
    rows = []
    for split, model, other in pairs:
        ours, theirs = table.get((split, model), {}), table.get((split, other), {})
        seeds = sorted(ours.keys() & theirs.keys())
        if len(seeds) > 1:
            gain, interval = _spread([ours[s] - theirs[s] for s in seeds])
            row = {"model": model, "other": other, "split": split}
            rows.append({**row, "gain": gain, "interval": interval})
    return rows


def _check_same(path: Path, plan: dict[str, Any]) -> None:
    made = read_json(path) if path.exists() else plan
    if others := [key for key in plan if made.get(key, plan[key]) != plan[key]]:
        raise MaxiError(
            f"{path.parent} holds a demonstration with other {' and '.join(others)}; choose another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)


def summarise(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per model and split: mean top-1 and mean gain over frozen, in points, with 95 % intervals.

    Over several seeds the interval is Student's over the seeds; for one seed it is that of its videos.
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
                over = of_model[0].get("gain", {"gain": 0.0, "interval": [0.0, 0.0]})
                row["gain"], row["gain_interval"] = over["gain"], over["interval"]
            rows.append(row)
    return rows


def _spread(values: list[float]) -> tuple[float, list[float]]:
    mean, low, high = mean_interval(values)
    return round(mean, 2), [round(low, 2), round(high, 2)]
