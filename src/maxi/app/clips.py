"""Previews of videos for a browser, made by the killable decoders and kept in the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from maxi.app.desk import Desk
from maxi.files import digest
from maxi.records import Video
from maxi.reports.html import strip
from maxi.video.preview import Span
from maxi.video.workers import Request

N_FRAMES, HEIGHT = 8, 200  # of a strip
WHOLE = 1e9  # seconds


def preview(desk: Desk, video: Video, start: float = 0.0, end: float = WHOLE) -> Path:
    """Return an MP4 of a part of a video, see `video.preview`; of a segment, the seconds count from its own beginning.

    Raises MaxiError when the part cannot be shown.
    """
    end = min(end, max(video.seconds, start) + (1.0 if video.start is None else 0.0))
    span = Span((video.start or 0.0) + start, (video.start or 0.0) + end)

    def make() -> bytes:
        data = desk.job.decoder.one(Request(video.path, span))
        assert isinstance(data, np.ndarray)
        return data.tobytes()

    return _kept(desk, f"{digest(video.id, span.start, span.end)}.mp4", make)


def pictures(desk: Desk, video: Video, n: int) -> Path:
    """Return a JPEG with `n` frames of a video side by side. Raises MaxiError when it no longer decodes."""
    return _kept(
        desk, f"{digest(video.id, n)}.jpg", lambda: strip(desk.job.decoder, video, n, height=HEIGHT)
    )


def _kept(desk: Desk, name: str, make: Callable[[], bytes]) -> Path:
    """Return the path of a file of the run's previews; it is made where it is missing."""
    path = desk.run.previews / name
    if not path.exists():
        content = make()
        desk.run.previews.mkdir(exist_ok=True)
        new = path.with_name(f"{os.getpid()}-{id(content)}.tmp")
        try:
            new.write_bytes(content)
            new.replace(path)
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)
    return path
