"""Measure on the miniature what 10, 20, 40 and 80 answers of a judge are worth, in every untidy collection.

Usage: python scripts/answers_worth.py FOLDER SEED [SEED ...]

For each seed and regime a model is adapted without labels, as `maxi study collections` does. A collection of further
videos of its names, and one of names that it never saw, both in the regime, are judged by a simulated judge. He errs in
0, 15 or 30 % of the clips, and `maxi refine` learns from that. Measured are videos that were not judged and show a
listed name. The control deals the answers out to other videos. The same line again goes on after a break. FOLDER gets
answers.json and answers.svg; the table goes to stdout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from maxi.files import read_json, write_json
from maxi.method.metrics import mean_interval, with_interval
from maxi.method.mixture import Answers
from maxi.method.refinement import calibration_error, refine
from maxi.miniature.actions import VALIDATION, partition
from maxi.miniature.regimes import REGIMES, Regime
from maxi.miniature.videos import Order, render
from maxi.models.text_embeddings import embed_names
from maxi.progress import bar
from maxi.randomness import generator
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.embedding import embed
from maxi.stages.index import index_run
from maxi.stages.job import open_job
from maxi.studies.collection import rendered
from maxi.studies.paper import SIZES
from maxi.studies.run import SMALL_BATCH
from maxi.studies.table import STUDIES
from maxi.studies.training import train_row

SPLITS, MODELS = ("known", "unseen"), ("frozen", "adapted")
N_VIDEOS, N_JUDGES = 240, 4
NUMBERS, ERRORS = (10, 20, 40, 80), (0.0, 0.15, 0.3)


class Collection(NamedTuple):
    """Videos of a collection, z_v (V, D), its names, z_l (K, D), the temperature, and true names y (V,), -1: none."""

    z_v: np.ndarray
    z_l: np.ndarray
    tau: np.ndarray
    y: np.ndarray


def prepare(folder: Path, seed: int, world: str) -> dict[str, Collection]:
    """Return both collections of a regime as both models see them, by `SPLIT MODEL`; what is there is read."""
    place, regime = folder / f"asked-{world.replace(' ', '-')}", REGIMES[world]
    kinds = [f"{split} {model}" for split in SPLITS for model in MODELS]
    files = {kind: place / f"{kind.replace(' ', '-')}.npz" for kind in kinds}
    if not all(file.exists() for file in files.values()):
        embed_all(folder, seed, world, place, regime, files)
    return {kind: Collection(**np.load(file)) for kind, file in files.items()}


def embed_all(
    folder: Path, seed: int, world: str, place: Path, regime: Regime, files: dict[str, Path]
) -> None:
    """Adapt a model in a regime, render two further collections, and write their embeddings."""
    config = load_config(None, (SMALL_BATCH,), backbone="miniature", seed=seed)
    study = STUDIES["collections"]
    collection = rendered(folder, seed, world, config, SIZES, bar)
    trained = train_row(study.rows["adapted"], "adapted", study, collection, config, bar)
    assert trained.run is not None
    others = [action.name for action in VALIDATION]
    lists = dict(zip(SPLITS, partition(seed), strict=True))
    orders = [
        Order(f"asked-{split}", regime.drawn(names, N_VIDEOS, others, seed), N_VIDEOS)
        for split, names in lists.items()
    ]
    render(place, seed, [order._replace(cuts=regime.cuts) for order in orders], progress=bar)
    for split, names in lists.items():
        with open_job(place / "run", config, bar) as job:
            source = str(place / f"asked-{split}.csv")
            videos = index_run(job, source, Run(place / "run" / split))
            y = np.array([names.index(v.label) if v.label in names else -1 for v in videos])
            for kind, saved in (("frozen", None), ("adapted", trained.run.model)):
                model = job.model(saved)
                _, z_v = embed(job, model, videos, config.eval.n_frames)
                z_l = embed_names(model, names, [config.eval.prompt])
                made = Collection(z_v, z_l, np.array(1 / float(model.logit_scale.exp())), y)
                np.savez(files[f"{split} {kind}"], **made._asdict())


def measure(folder: Path, seed: int, world: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each model, collection, number of answers, share of errors, and the control."""
    for kind, data in prepare(folder, seed, world).items():
        split, model = kind.split()
        for row in simulate(data.z_v, data.z_l, float(data.tau), data.y, seed):
            yield {"seed": seed, "world": world, "split": split, "model": model, **row}


def simulate(
    z_v: np.ndarray, z_l: np.ndarray, tau: float, y: np.ndarray, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the mean over simulated judges for each number of answers and share of errors."""
    for n in NUMBERS:
        for error, control in [*((error, False) for error in ERRORS), (0.0, True)]:
            found = [judge(z_v, z_l, tau, y, n, error, control, seed, j) for j in range(N_JUDGES)]
            before, after, was, now = np.mean(found, axis=0)
            figures = {"before": before, "after": after, "ece_before": was, "ece_after": now}
            yield {"n": n, "error": error, "control": control, **figures}


def judge(
    z_v: np.ndarray,
    z_l: np.ndarray,
    tau: float,
    y: np.ndarray,
    n: int,
    error: float,
    control: bool,
    seed: int,
    number: int,
) -> tuple[float, float, float, float]:
    """Return top-1 before and after, and calibration errors before and after, of the videos that were not judged."""
    draw = generator(f"judge {number}", seed)
    asked = draw.permutation(len(y))[:n]
    told = asked[y[asked] >= 0]
    names = y[told].copy()
    mistaken = draw.random(len(told)) < error
    names[mistaken] = draw.integers(0, len(z_l), mistaken.sum())
    if control:
        names = draw.permutation(names)
    rest = np.setdiff1d(np.flatnonzero(y >= 0), asked)
    before = z_v[rest] @ z_l.T / tau
    refined = refine(z_v, z_l, tau, Answers(told, names, np.ones(len(told))), seed=number)
    after = refined.linear.compare(z_v[rest]) if refined else before
    top1 = [100 * float((scores.argmax(1) == y[rest]).mean()) for scores in (before, after)]
    error_before, error_after = (calibration_error(x, y[rest]) for x in (before, after))
    return top1[0], top1[1], error_before, error_after


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table with a row for each collection and model, with gains in points over the seeds."""
    yield (
        "| collection | names | model | before | 10 answers | 20 | 40 | 80 | 40, 15 % wrong | 40, 30 % wrong "
        "| 40 dealt out | calibration error, 0 and 40 |"
    )
    yield "|" + "---|" * 12
    columns = [(n, 0.0, False) for n in NUMBERS] + [(40, 0.15, False), (40, 0.3, False)]
    for world in REGIMES:
        for split in ("known", "unseen"):
            for kind in ("frozen", "adapted"):
                rows = [
                    r
                    for r in records
                    if (r["world"], r["split"], r["model"]) == (world, split, kind)
                ]
                cells = [gain(rows, *column) for column in [*columns, (40, 0.0, True)]]
                forty = [r for r in rows if (r["n"], r["error"], r["control"]) == (40, 0, False)]
                before, was, now = (
                    np.mean([r[key] for r in forty])
                    for key in ("before", "ece_before", "ece_after")
                )
                head = [world, split, kind, f"{before:.1f}"]
                yield f"| {' | '.join([*head, *cells, f'{was:.1f}, {now:.1f}'])} |"


def gain(rows: list[dict[str, Any]], n: int, error: float, control: bool) -> str:
    """Return the mean gain over the seeds and its 95 % interval."""
    gains = [
        r["after"] - r["before"]
        for r in rows
        if (r["n"], r["error"], r["control"]) == (n, error, control)
    ]
    if len(gains) < 2:
        return f"{gains[0]:+.1f}"
    middle, low, high = mean_interval(gains)
    return with_interval(middle, (low, high))


def draw_curves(records: list[dict[str, Any]], file: Path) -> None:
    """Draw the mean gain of the adapted model on names that it never saw over the number of answers, as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "maxi"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for world, mark in zip(REGIMES, "osD^v*", strict=True):
        means = [0.0]
        for n in NUMBERS:
            rows = [r for r in records if (r["world"], r["n"], r["error"]) == (world, n, 0.0)]
            chosen = [r for r in rows if (r["split"], r["model"]) == ("unseen", "adapted")]
            means.append(mean([r["after"] - r["before"] for r in chosen if not r["control"]]))
        axes.plot([0, *NUMBERS], means, marker=mark, label=world)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="answers", ylabel="gain, points", xticks=[0, *NUMBERS])
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measure all seeds, print the table, and draw the curves."""
    out, seeds = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    path = out / "answers.json"
    records = read_json(path) if path.is_file() else []
    for seed in seeds:
        for world in REGIMES:
            if not any((r["seed"], r["world"]) == (seed, world) for r in records):
                records += measure(out / f"seed-{seed}", seed, world)
                write_json(path, records)
    chosen = [r for r in records if r["seed"] in seeds]
    for line in table(chosen):
        sys.stdout.write(line + "\n")
    draw_curves(chosen, out / "answers.svg")


if __name__ == "__main__":
    main()
