"""A collection that a study is made on: unlabelled videos and their names, and labelled videos to measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxi.config import Config
from maxi.miniature.actions import VALIDATION, partition
from maxi.miniature.regimes import REGIMES, shares_to_counts
from maxi.miniature.videos import THEN, Order, Style, render
from maxi.progress import Progress
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import check_labels, index_run, start_run
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.text.names import distinct, same
from maxi.video.sources import list_videos, read_names


class Split(NamedTuple):
    """Labelled videos, and the names among which each is to be recognised."""

    name: str
    videos: list[Video]
    names: list[str]

    def labels(self) -> list[list[int]]:
        """Return the indices of the names that each video shows: two where the world renders two actions, else one."""
        places = {same(name): k for k, name in enumerate(self.names)}
        labels = [str(video.label) for video in self.videos]
        shown = [[label] if same(label) in places else label.split(THEN) for label in labels]
        return [[places[same(name)] for name in names] for names in shown]


class Sizes(NamedTuple):
    """Numbers of rendered videos: unlabelled ones, and labelled ones of unseen and of known actions."""

    pool: int
    unseen: int
    known: int


SIZES = Sizes(pool=200, unseen=480, known=160)


class Shots(NamedTuple):
    """Labelled videos of which a few of each name are learnt from, as `maxi index` takes them, and their names."""

    where: str
    names: list[str]


class Collection(NamedTuple):
    """A run up to its captions, the videos to measure on, and the true name by video id where it is known.

    `shots` are further labelled videos. `measured` is the folder in which the videos to measure on are embedded, and
    `world` the regime of a rendered one.
    """

    run: Run
    splits: list[Split]
    truth: Mapping[str, str]
    shots: Shots
    measured: Run
    world: str


def rendered(
    folder: Path,
    seed: int,
    world: str,
    config: Config,
    sizes: Sizes,
    progress: Progress,
    *,
    styles: Sequence[Style] = (),
    shots: int = 0,
) -> Collection:
    """Render the miniature of a seed in a regime below a folder, and prepare its run.

    The unseen videos are the same in all regimes. Where some unseen actions would be rare or absent too, the split
    `unseen, its shares` has so many of each. `styles` are further splits of unseen actions, of other looks, and `shots`
    the number of labelled videos of each to learn from.
    """
    known, unseen = partition(seed)
    regime = REGIMES[world]
    own = folder / world.replace(" ", "-")
    pool = regime.drawn(known, sizes.pool, [action.name for action in VALIDATION], seed)
    shown = regime.drawn(known, sizes.known, (), seed)
    orders = [Order("pool", pool, sizes.pool, cuts=regime.cuts), Order("known", shown, len(shown))]
    render(own, seed, orders, progress=progress)
    others = [Order("unseen", unseen, sizes.unseen)]
    others += [
        Order(_slug(f"unseen {style}"), unseen, sizes.unseen // 2, style) for style in styles
    ]
    training = [Order("shots", unseen, shots * len(unseen))] if shots else []
    render(folder / "unseen", seed, [*others, *training], progress=progress)
    measured = Run(folder / "measured")
    with open_job(measured.folder, config, progress) as job:
        splits = []
        for order in others:
            videos = _labelled(job, folder / "unseen" / f"{order.split}.csv", order.split)
            splits.append(Split(order.split.replace("-", " "), videos, unseen))
        if regime.tail or regime.occurring < 1:
            splits.append(_thinned(splits[0], regime.drawn(unseen, sizes.unseen, (), seed)))
        videos = _labelled(job, own / "known.csv", f"known-{_slug(world)}")
        splits.append(Split("known", videos, known))
    with open_job(own / "run", config, progress) as job:
        _prepare(job, str(own / "pool"), known)
        manifest = read_jsonl(job.run.manifest, Video)
    labels = {s.path.resolve(): str(s.label) for s in list_videos(own / "pool.csv")}
    truth = {video.id: labels[Path(video.path).resolve()] for video in manifest}
    labelled = Shots(str(folder / "unseen" / "shots.csv"), unseen)
    return Collection(job.run, splits, truth, labelled, measured, world)


def _thinned(split: Split, wanted: Sequence[str]) -> Split:
    """Return as many videos of a split as there are for the shares of these names."""
    shares = np.array([wanted.count(name) for name in split.names], dtype=float)
    have = np.array([sum(v.label == name for v in split.videos) for name in split.names])
    some = shares > 0
    counts = np.zeros(len(shares), dtype=int)
    counts[some] = shares_to_counts(
        shares[some], int((have / np.maximum(shares, 1e-9))[some].min() * shares.sum())
    )
    left = dict(zip(split.names, counts, strict=True))
    videos = []
    for video in split.videos:
        if left[str(video.label)] > 0:
            left[str(video.label)] -= 1
            videos.append(video)
    return Split(f"{split.name}, its shares", videos, split.names)


def given(
    folder: Path, videos: str, actions: Path, labelled: str, config: Config, progress: Progress
) -> Collection:
    """Prepare a run on videos of one's own; `labelled` are the videos to measure on."""
    check_labels(labelled, list_videos(labelled))
    measured = Run(folder / "measured")
    with open_job(measured.folder, config, progress) as job:
        found = index_run(job, labelled, Run(measured.folder / "labelled"))
    names = distinct(str(video.label) for video in found)
    with open_job(folder / "run", config, progress) as job:
        _prepare(job, videos, read_names(actions))
        manifest = read_jsonl(job.run.manifest, Video)
    listed = {same(name): name for name in job.names()}
    labels = {video.id: video.label for video in manifest if video.label is not None}
    truth = {video: listed.get(same(label), label) for video, label in labels.items()}
    shots = Shots(videos, distinct(truth.values()))
    return Collection(job.run, [Split("labelled", found, names)], truth, shots, measured, "")


def _labelled(job: Job, where: Path, name: str) -> list[Video]:
    """Index labelled videos in a folder of the run, and return them."""
    return index_run(job, str(where), Run(job.run.folder / name))


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def _prepare(job: Job, videos: str, names: Sequence[str]) -> None:
    start_run(job, names)
    index_run(job, videos)
    for stage in (match_run, expand_run, caption_run):
        stage(job)
