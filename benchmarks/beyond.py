"""Train beyond the paper, on the miniature: what each option gains over the paper's training, paired by seed.

    python benchmarks/beyond.py runs/beyond --seeds 5 --seed-offset 20

Every seed renders its own videos and partition of the actions, as `maxi demo` does. Each option then trains through the
proof's own functions, from the same matches, phrases and captions, and is measured on the same unseen videos. With
`--controls` it is trained once more, on bags that were dealt out to the videos at random. Nothing is tuned: each option
has the one value that is written here. If the script is interrupted, start it again: it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bags import soft, top1
from maxi.config import Config
from maxi.demo.proof import demo_config
from maxi.demo.trial import FULL, Row, labelled, scores_of, train_row, truth_of
from maxi.files import write_json
from maxi.method.metrics import mean_interval, with_interval
from maxi.miniature.actions import partition
from maxi.miniature.videos import Order, render
from maxi.progress import bar
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from maxi.studies.collection import Split

SOFT = "soft matches as graded positives"
WAYS: dict[str, Mapping[str, Any]] = {
    "paper": {},
    "distillation from the frozen model": {"distill": 1.0},
    "learnt temperature": {"learn_sigma": True},
    SOFT: {"graded_positives": True},
    "curriculum from half of the videos": {"curriculum": 0.5},
    "exponential average of the weights": {"average": "ema"},
}


def prepare(job: Job, videos: Path, names: list[str]) -> None:
    """Make a run up to its bags, as `maxi adapt` does."""
    start_run(job, names)
    index_run(job, str(videos / "pool"))
    for stage in (match_run, expand_run, caption_run, bag_run):
        stage(job)


def shuffled(run: Run, config: Config, split: Split) -> float:
    """Return top-1 after training on bags that were dealt out at random."""
    with open_job(run.folder, config, bar) as job:
        train_run(job, control=True)
        return top1(scores_of(job, run.control.model, [split])["unseen"], split)


def measure(
    folder: Path,
    seed: int,
    overrides: tuple[str, ...],
    ways: Mapping[str, Mapping[str, Any]],
    controls: bool,
) -> dict[str, Any]:
    """Return top-1 on the unseen videos of one seed: frozen, and after each way of training, with its control."""
    config = demo_config(overrides, seed=seed)
    trial = folder / f"seed-{seed}"
    run, videos = Run(trial / "run"), trial / "videos"
    known, unseen = partition(seed)
    orders = [Order("pool", known, FULL.pool), Order("unseen", unseen, FULL.unseen)]
    render(videos, seed, orders, progress=bar)
    with open_job(run.folder, config, bar) as job:
        prepare(job, videos, known)
        split = Split("unseen", labelled(job, videos, "unseen"), unseen)
        truth = truth_of(videos, read_jsonl(run.manifest, Video))
        accuracies = {"frozen": top1(scores_of(job, None, [split])["unseen"], split)}
        soft_row = soft(job, read_jsonl(run.manifest, Video), job.names())
    for name, update in ways.items():
        place = name.replace(" ", "_")
        changed = config.model_copy(update={"train": config.train.model_copy(update=update)})
        row = soft_row if name == SOFT else Row()
        scores = train_row(run, place, row, changed, truth, [split], bar)
        accuracies[name] = top1(scores["unseen"], split)
        if controls:
            control = shuffled(Run(trial / "rows" / place), changed, split)
            accuracies[f"{name}, shuffled"] = control
        print(f"seed {seed}, {name}: {accuracies[name]:.1f}", flush=True)
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="Folder of videos, runs and figures.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed-offset", type=int, default=20, help="The first seed.")
    only = "Options whose names hold one of these words."
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help=only)
    parser.add_argument("--controls", action="store_true", help="Also train on shuffled bags.")
    parser.add_argument("-s", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    ways = {
        name: update
        for name, update in WAYS.items()
        if name == "paper" or any(word in name for word in options.only)
    }
    if unknown := [word for word in options.only if not any(word in name for name in ways)]:
        parser.error(f"no option has {unknown[0]!r} in its name; there are: {'; '.join(WAYS)}")
    table = {}
    for seed in range(options.seed_offset, options.seed_offset + options.seeds):
        table[seed] = measure(options.out, seed, tuple(options.settings), ways, options.controls)
        write_json(options.out / f"beyond-{options.seed_offset}.json", table)
    report(table)


def report(table: dict[int, dict[str, float]]) -> None:
    """Print the mean of each option over the seeds, and its gain over the paper's training."""
    seeds = sorted(table)
    print(f"{len(seeds)} seeds: {', '.join(map(str, seeds))}; top-1 % on the unseen videos")
    for name in table[seeds[0]]:
        values = [table[seed][name] for seed in seeds]
        gains = [table[seed][name] - table[seed]["paper"] for seed in seeds]
        gain = ""
        if len(seeds) > 1:
            mean, low, high = mean_interval(gains)
            gain = f"   over the paper's training {with_interval(mean, [low, high])}"
        print(f"{name:44} {np.mean(values):5.1f}{gain}")


if __name__ == "__main__":
    main()
