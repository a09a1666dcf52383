"""Cache: decode the videos of a run's bags once, into shards from which training reads frames."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxi.config import CacheConfig
from maxi.errors import MaxiError
from maxi.records import Skipped, Video, read_jsonl
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.bag import made_bags
from maxi.stages.inputs import bag_videos
from maxi.stages.job import Job, n_workers, without
from maxi.video.frame_store import FrameStore, StoredFrames, n_pixels, pack, stored_indices
from maxi.video.workers import BYTES_AHEAD, Answer, Request

SAMPLE = 8  # videos from which the size of JPEGs is estimated


class Amount(NamedTuple):
    """A number of videos, and the bytes that their frames take."""

    videos: int
    n_bytes: int

    def __str__(self) -> str:
        return f"{self.videos:,} videos, {in_bytes(self.n_bytes)}"


def format_of(folder: Path, settings: Sequence[str], kind: str | None) -> str:
    """Return how a run's frames are to be kept: `kind` if given, else what the settings say, else `raw`."""
    configured = load_config(Run(folder).existing().config, settings).cache.format
    return kind or ("raw" if configured == "none" else configured)


def plan_cache(job: Job) -> Amount:
    """Return what `cache` would write, without writing; it is exact for raw frames and estimated for JPEG."""
    videos = bag_videos(job, made_bags(job))
    store = FrameStore(job.run.frames, job.config.cache)
    todo = [v for v in videos if v.id not in store]
    return Amount(len(todo), _bytes_needed(job, todo))


def cache_run(job: Job) -> Amount:
    """Store frames of every video that has a bag, and return how much is stored.

    An interrupted cache goes on where it was.
    """
    videos = bag_videos(job, made_bags(job))
    store = fill_cache(job, videos)
    stored = [v.id for v in videos if v.id in store]
    return Amount(len(stored), sum(map(store.n_bytes, stored)))


def check_cache(job: Job) -> list[str]:
    """Read all stored frames, drop the videos whose checksums are wrong, and return a line for each of them.

    The next `cache` stores the dropped videos anew.
    """
    store = FrameStore(job.run.frames, job.config.cache)
    paths = {v.id: v.path for v in read_jsonl(job.run.manifest, Video)}
    damaged = {v: f"{paths.get(v, v)}: its shard is cut off or missing" for v in sorted(store.cut)}
    for video in job.progress(list(store), len(store), "check"):
        try:
            store.verify(video)
        except MaxiError as error:
            damaged[video] = f"{paths.get(video, video)}: {error}"
    if damaged:
        store.drop(damaged)
    return list(damaged.values())


def fill_cache(job: Job, videos: Sequence[Video]) -> FrameStore:
    """Return the store, filled with frames of all of these videos that still decode; a complete store costs nothing.

    Raises MaxiError before writing when the disk has no room for the missing frames, and, in several processes, when
    the cache is not complete.
    """
    store = FrameStore(job.run.frames, job.config.cache)
    todo = [v for v in videos if v.id not in store]
    if job.world.size > 1:
        if untried := sum(v.id not in store.lost for v in todo):
            raise MaxiError(
                f"{untried} of {len(videos)} videos are not in the cache; run `maxi cache {job.run.folder}` first"
            )
    elif todo:
        _check_room(job, todo)
        try:
            _write(job, todo, store)
        finally:
            store.close()
    failed = [Skipped(v.path, "unreadable", store.lost[v.id]) for v in videos if v.id in store.lost]
    without(job, videos, failed)
    return store


def _check_room(job: Job, todo: Sequence[Video]) -> None:
    """Raise MaxiError when the disk has no room for the frames of these videos."""
    needed, free = _bytes_needed(job, todo), shutil.disk_usage(job.run.folder).free
    if needed > free:
        raise MaxiError(
            f"{job.run.frames} needs {in_bytes(needed)} for {len(todo):,} videos and the disk has {in_bytes(free)} "
            "left; make room, or choose `--format jpeg`, fewer `cache.n_frames` or a smaller `cache.short_side`"
        )


def _bytes_needed(job: Job, todo: Sequence[Video]) -> int:
    """Return the bytes that the frames of these videos will take; for JPEG, estimated from a sample."""
    cache_config = job.config.cache
    all_pixels = sum(n_pixels(v, cache_config) for v in todo)
    if cache_config.format == "raw":
        return 3 * all_pixels
    sample = todo[:: max(1, len(todo) // SAMPLE)][:SAMPLE]
    sample_bytes = sample_pixels = 0
    for packed in _packed(job, sample):
        if isinstance(packed, StoredFrames):
            sample_bytes += sum(map(len, packed.frames))
            sample_pixels += packed.height * packed.width * len(packed.frames)
    return round(sample_bytes * all_pixels / max(1, sample_pixels))


def _write(job: Job, todo: Sequence[Video], store: FrameStore) -> None:
    results = zip(todo, _packed(job, todo), strict=True)
    for video, packed in job.progress(results, len(todo), "cache"):
        if isinstance(packed, StoredFrames):
            store.append(video.id, packed)
        else:
            store.lose(video.id, str(packed))


def _packed(job: Job, videos: Sequence[Video]) -> Iterator[StoredFrames | MaxiError]:
    """Yield the frames of each video as they are stored, in order, or the error of one that does not decode.

    Threads pack the frames while the next videos are decoded.
    """
    cache_config = job.config.cache
    requests = (Request.of(v, stored_indices(v, cache_config)) for v in videos)
    n_threads = n_workers(job.config)
    pending: deque[Future[StoredFrames | MaxiError]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="maxi-pack") as pool:
        for _, frames in job.decoder.map(requests):
            pending.append(pool.submit(_pack, frames, cache_config))
            size = frames.nbytes if isinstance(frames, np.ndarray) else 1
            while len(pending) > min(n_threads, BYTES_AHEAD // size):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _pack(frames: Answer | MaxiError, config: CacheConfig) -> StoredFrames | MaxiError:
    if isinstance(frames, MaxiError):
        return frames
    assert isinstance(frames, np.ndarray)
    return pack(frames, config)


def in_bytes(n: float) -> str:
    """Return a number of bytes for people to read, such as 3.1 MB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n / 1e3:,.1f} kB"
