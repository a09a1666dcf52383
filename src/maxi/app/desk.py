"""Desk: what all pages share, the run with its videos, features and models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maxi.app.uploads import UnknownError, Uploads
from maxi.records import Row, Video, read_jsonl
from maxi.run import contents
from maxi.stages.asking import sampled
from maxi.stages.job import Job


class Desk:
    """A run that is open in a browser.

    `videos` are all videos of the run by id. `sample` are those on which both models are compared, with their features,
    and `places` their rows in it. `goal` is the number of videos to be answered. Whoever uses a model holds `models`,
    and whoever reads files to write them holds `files`, so that no answer waits for a long video. `frames` are
    embeddings of the frames of some videos by id, `uploads` holds an uploaded video, and `trained` is the digest of the
    training whose model this is. Raises MaxiError when the run has no evaluation that is current.
    """

    def __init__(self, job: Job, goal: int) -> None:
        self.job, self.run, self.goal = job, job.run, goal
        self.names = job.names()
        self.videos = {video.id: video for video in read_jsonl(job.run.manifest, Video)}
        self.sample = sampled(job)
        self.places = {video.id: place for place, video in enumerate(self.sample.videos)}
        self.model = job.model(job.run.model)
        self.frames: OrderedDict[str, np.ndarray] = OrderedDict()
        self.uploads = Uploads(job.run)
        self.trained = contents(job.run.training)
        self.models, self.files = threading.RLock(), threading.RLock()
        self._tables: dict[Path, tuple[str, list[Any]]] = {}
        job.unlock()  # a page may stay open for days; other commands work on the run meanwhile

    def video(self, name: str) -> Video:
        """Return the video with an id. Raises UnknownError when the run has none."""
        if name not in self.videos:
            raise UnknownError("the run has no video with this id; load the page again")
        return self.videos[name]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads and other commands out of the run. Raises MaxiError when another command works there."""
        with self.files:
            self.job.lock()
            try:
                yield
            finally:
                self.job.unlock()

    def table(self, path: Path, kind: type[Row]) -> list[Row]:
        """Return the rows of a table as it is now, [] where there is none; it is read again when it has changed."""
        if not path.exists():
            return []
        status = path.stat()
        state = f"{status.st_size} {status.st_mtime_ns}"
        with self.files:
            if self._tables.get(path, ("", []))[0] != state:
                self._tables[path] = state, read_jsonl(path, kind)
            return list(self._tables[path][1])
