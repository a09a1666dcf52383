"""Training beyond the paper, on the miniature: what each option gains over the paper's training, paired by seed.

    for s in 20 21 22 23 24; do maxi demo -o runs/demo-$s --seed-offset $s; done
    python benchmarks/beyond.py runs/demo-2?

Each option trains through the proof's own functions, from the same matches, phrases and captions, and is measured on
the same unseen videos; and once more with its bags dealt out to the videos at random. Nothing is tuned: each option has
the one value that is in the table. Run again, it goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bags import soft, top1
from maxi.config import Config
from maxi.demo import demo_config
from maxi.improving import improve
from maxi.jobs import open_job
from maxi.metrics import mean_interval, signed
from maxi.miniature.actions import partition
from maxi.progress import bar
from maxi.records import Video, read_json, read_jsonl, write_json
from maxi.runs import Run
from maxi.trial import Row, Split, labelled, scores_of, train_row, truth_of

WAYS: dict[str, Mapping[str, Any]] = {
    "distillation from the frozen model": {"distill": 1.0},
    "learnt temperature": {"learn_sigma": True},
    "soft matches as graded positives": {"graded_positives": True},
    "curriculum from half of the videos": {"curriculum": 0.5},
    "average of the weights, ema": {"average": "ema"},
    "average of the weights, swa": {"average": "swa"},
}
SOFT = "soft matches as graded positives"


def shuffled(run: Run, config: Config, split: Split) -> float:
    """The option with its bags dealt out at random."""
    with open_job(run.folder, config, bar) as job:
        improve(job, control=True)
        return top1(scores_of(job, run.control.model, [split])["unseen"], split)


def measure(folder: Path, seed: int, overrides: tuple[str, ...], controls: bool) -> dict[str, Any]:
    """Top-1 on the unseen videos of one seed: frozen, the paper's training, every option and its control."""
    config = demo_config(overrides, seed=seed)
    trial = folder / f"seed-{seed}"
    run, videos = Run(trial / "run"), trial / "videos"
    _, unseen = partition(seed)
    with open_job(run.folder, config, bar) as job:
        split = Split("unseen", labelled(job, videos, "unseen"), unseen)
        truth = truth_of(videos, read_jsonl(run.manifest, Video))
        found = {"frozen": top1(scores_of(job, None, [split])["unseen"], split)}
        found["paper"] = top1(scores_of(job, run.model, [split])["unseen"], split)
        found["paper, shuffled"] = top1(scores_of(job, run.control.model, [split])["unseen"], split)
        graded = soft(job, read_jsonl(run.manifest, Video), job.names())
    for name, update in WAYS.items():
        place = name.replace(" ", "_").replace(",", "")
        chosen = config.model_copy(update={"train": config.train.model_copy(update=update)})
        row = graded if name == SOFT else Row()
        found[name] = top1(train_row(run, place, row, chosen, truth, [split], bar)["unseen"], split)
        if controls:
            of_row = Run(trial / "rows" / place)
            found[f"{name}, shuffled"] = shuffled(of_row, chosen, split)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", type=Path, nargs="+", help="Folders of `maxi demo`.")
    parser.add_argument("--out", type=Path, help="File for the figures of every seed (JSON).")
    parser.add_argument(
        "--no-controls", action="store_true", help="Train no option on shuffled bags."
    )
    options = parser.parse_args()
    table = {}
    for folder in options.demos:
        overrides = tuple(read_json(folder / "demo.json")["overrides"])
        for path in sorted(folder.glob("seed-*")):
            seed = int(path.name.removeprefix("seed-"))
            table[seed] = measure(folder, seed, overrides, not options.no_controls)
            if options.out:
                write_json(options.out, table)
    report(table)


def report(table: dict[int, dict[str, float]]) -> None:
    seeds = sorted(table)
    print(f"{len(seeds)} seeds: {', '.join(map(str, seeds))}; top-1 % on the unseen videos")
    for name in table[seeds[0]]:
        values = [table[seed][name] for seed in seeds]
        gains = [table[seed][name] - table[seed]["paper"] for seed in seeds]
        over = ""
        if len(seeds) > 1:
            mean, low, high = mean_interval(gains)
            over = f"   over the paper's training {signed(mean, [low, high])}"
        print(f"{name:44} {np.mean(values):5.1f}{over}")


if __name__ == "__main__":
    main()
