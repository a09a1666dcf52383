"""The batches of the few steps that a plan takes, from the source that training has, and a watch on these steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from maxi.errors import MaxiError
from maxi.features.store import n_stored
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress, Shown
from maxi.records import Bag, Video
from maxi.run import Run
from maxi.stages.job import Job
from maxi.stages.train import training_batches
from maxi.training.batches import Batches, clip_bytes, epochs_decoded_at_once
from maxi.training.schedule import Step
from maxi.training.stored_views import views_key
from maxi.video.frame_store import FrameStore

SAMPLE = 16  # videos that are embedded where only the head is trained


@dataclass(frozen=True)
class Source:
    """Batches for training, and what it costs to have them."""

    batches: Batches
    n_epochs: int = 1  # epochs for which files are decoded at once
    ahead: int = 0  # bytes of clips that wait when an epoch of decoding ends
    seconds: float = 0.0  # time that it takes to fill the store of features
    features: int = 0  # bytes that the store of features will grow by


def stored(job: Job, model: VideoCLIP, videos: Sequence[Video]) -> Source:
    """Return batches from the cache. Raises MaxiError when the cache is not complete."""
    store = FrameStore(job.run.frames, job.config.cache)
    if missing := sum(v.id not in store and v.id not in store.lost for v in videos):
        raise MaxiError(
            f"{missing} of {len(videos)} videos are not in the cache that training reads; run `maxi cache "
            f"{job.run.folder}` first (`--dry-run` tells its size)"
        )
    return Source(training_batches(job, model, videos)[0])


def decoded(job: Job, model: VideoCLIP, videos: Sequence[Video]) -> Source:
    """Return batches from the files, as training decodes them."""
    config, side = job.config.train, model.backbone.image_size
    n_epochs = epochs_decoded_at_once(videos, config, side)
    ahead = len(videos) * (n_epochs - 1) * clip_bytes(config, side)
    return Source(training_batches(job, model, videos)[0], n_epochs, ahead)


def embedded(
    job: Job, model: VideoCLIP, bags: Sequence[Bag], videos: Sequence[Video], *, folder: Path
) -> Source:
    """Return batches with the features of the first few videos in place of all, since a step costs the same with them.

    Raises MaxiError when none of these videos can be read.
    """
    moments: list[float] = []  # when each video was begun, and the end

    def note_moments(items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            moments.append(time.monotonic())
            yield item
        moments.append(time.monotonic())

    def timed(items: Iterable[Any], total: int, label: str) -> Shown:
        return job.progress(note_moments(items), total, label)

    sample_job = replace(job, run=Run(folder), progress=timed)
    batches, store = training_batches(sample_job, model, videos[:SAMPLE])
    assert store is not None
    sample = [bag for bag in bags[:SAMPLE] if bag.video in store]
    store.close()
    if not sample:
        raise MaxiError(f"none of the first {SAMPLE} videos can be read any more; see `maxi check`")

    def sample_batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for step in steps:
            in_place = tuple(sample[i % len(sample)] for i in range(len(step.bags)))
            _, features = next(batches([replace(step, bags=in_place)]))
            yield step, features

    key = views_key(model, job.config.train, job.config.seed)
    n_missing = len(videos) - n_stored(job.run.features, key)
    return Source(
        sample_batches,
        seconds=(moments[-1] - moments[0]) / (len(moments) - 1) * n_missing,
        features=round(size_of(Run(folder).features) / len(sample) * n_missing),
    )


class Recorded:
    """Batches as they are made; `again` gives the last one of them again, for every step."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._making = threading.Lock()
        self._last: tuple[Step, Tensor] | None = None
        self._n_videos = 0

    def __call__(self, steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        made = self._batches(steps)
        while True:
            with self._making:
                if (item := next(made, None)) is None:
                    return
            self._last = item
            self._n_videos += len(item[0].bags)
            yield item

    def again(self, steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        """Yield the inputs of the last batch for every step, without making any."""
        with self._making:  # wait until the thread that makes batches has finished its last one
            assert self._last is not None
        last, inputs = self._last
        for step in steps:
            yield replace(step, bags=last.bags), inputs

    def seen(self, n_videos: int) -> float:
        """Return the share of all videos that batches were made of, at most 1."""
        return min(1.0, self._n_videos / n_videos)


class Trial(Shown):
    """The first steps of a training, as its progress sees them: the row of each, and the moment when it came."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress, self._label = progress, label
        self.rows: list[Mapping[str, Any]] = []
        self.moments = [time.monotonic()]  # of the beginning, of each row, and of the end

    def progress(self, items: Iterable[Any], total: int, label: str) -> Trial:
        """Serve as the training's progress: show it under the plan's label, and watch it."""
        self._shown = self._progress(items, total, self._label)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self._shown)

    def show(self, row: Mapping[str, Any]) -> None:
        self.moments.append(time.monotonic())
        self.rows.append(row)
        self._shown.show(row)

    @property
    def before_steps(self) -> float:
        """Seconds from the beginning to the first step."""
        return self.moments[1] - self.moments[0] - float(self.rows[0]["seconds"])

    @property
    def between_steps(self) -> list[float]:
        """Seconds from the end of each step to the beginning of the next."""
        ends = zip(self.moments[1:-1], self.moments[2:-1], self.rows[1:], strict=False)
        return [later - end - row["seconds"] for end, later, row in ends]

    @property
    def after_steps(self) -> float:
        """Seconds from the end of the last step to the end."""
        return self.moments[-1] - self.moments[-2]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())
