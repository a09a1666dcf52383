"""A collection that a study is made on: unlabelled videos and their names, and labelled videos to measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from maxi.config import Config
from maxi.miniature.actions import partition
from maxi.miniature.videos import Order, render
from maxi.progress import Progress
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import check_labels, index_run, start_run
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.text.names import distinct
from maxi.video.sources import list_videos, read_names


class Split(NamedTuple):
    """Labelled videos, and the names among which each is to be recognised."""

    name: str
    videos: list[Video]
    names: list[str]


class Sizes(NamedTuple):
    """Numbers of rendered videos: unlabelled ones, and labelled ones of unseen and of known actions."""

    pool: int
    unseen: int
    known: int


SIZES = Sizes(pool=200, unseen=480, known=160)


class Collection(NamedTuple):
    """A run up to its captions, the videos to measure on, and the true name by video id where it is known."""

    run: Run
    splits: list[Split]
    truth: Mapping[str, str]


def rendered(
    folder: Path, seed: int, config: Config, sizes: Sizes, progress: Progress
) -> Collection:
    """Render the miniature of a seed below a folder, and prepare its run."""
    known, unseen = partition(seed)
    orders = [Order("pool", known, sizes.pool)]
    orders += [Order("unseen", unseen, sizes.unseen), Order("known", known, sizes.known)]
    videos = folder / "videos"
    render(videos, seed, orders, progress=progress)
    with open_job(folder / "run", config, progress) as job:
        _prepare(job, str(videos / "pool"), known)
        splits = [
            Split(
                order.split,
                labelled_of(job, str(videos / f"{order.split}.csv"), order.split),
                list(order.names),
            )
            for order in orders[1:]
        ]
        manifest = read_jsonl(job.run.manifest, Video)
    labels = {s.path.resolve(): str(s.label) for s in list_videos(videos / "pool.csv")}
    truth = {video.id: labels[Path(video.path).resolve()] for video in manifest}
    return Collection(job.run, splits, truth)


def given(
    folder: Path, videos: str, actions: Path, labelled: str, config: Config, progress: Progress
) -> Collection:
    """Prepare a run on videos of one's own; `labelled` are the videos to measure on."""
    check_labels(labelled, list_videos(labelled))
    with open_job(folder / "run", config, progress) as job:
        _prepare(job, videos, read_names(actions))
        measured = labelled_of(job, labelled, "eval")
        names = distinct(str(video.label) for video in measured)
        manifest = read_jsonl(job.run.manifest, Video)
    truth = {video.id: video.label for video in manifest if video.label is not None}
    return Collection(job.run, [Split("labelled", measured, names)], truth)


def labelled_of(job: Job, where: str, name: str) -> list[Video]:
    """Index labelled videos in a folder of the run, and return them."""
    return index_run(job, where, Run(job.run.folder / name))


def _prepare(job: Job, videos: str, names: Sequence[str]) -> None:
    start_run(job, names)
    index_run(job, videos)
    for stage in (match_run, expand_run, caption_run):
        stage(job)
