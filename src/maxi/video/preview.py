"""Preview: a small H.264 copy of a part of a video, which every browser plays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.video.decode import decoded, opened
from maxi.video.upright import display_of, displayed_size, upright

if TYPE_CHECKING:
    from av.container import OutputContainer

HEIGHT, WIDTH = 360, 960  # pixels at most
RATE = 12  # frames of a preview per second
LONGEST = 20.0  # seconds of a preview; a longer part of a video is shown faster


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a video, from `start` to `end` in seconds from the first frame."""

    start: float
    end: float

    @property
    def step(self) -> float:
        """The seconds of the video from one frame of the preview to the next."""
        return max(1.0, (self.end - self.start) / LONGEST) / RATE


def preview(path: str | Path, span: Span) -> NDArray[np.uint8]:
    """Return the bytes of an MP4 that shows a part of a video, at most HEIGHT pixels high.

    Raises MaxiError when no frame of the part decodes, or when H.264 cannot be written here.
    """
    with tempfile.TemporaryDirectory(prefix="maxi-") as folder:
        file = (
            Path(folder) / "preview.mp4"
        )  # what comes first in a file to be streamed is written last, so it is no pipe
        _write(path, span, file)
        return np.fromfile(file, np.uint8)


def _write(path: str | Path, span: Span, file: Path) -> None:
    n = 0
    with opened(path) as (container, stream), _encoder(file) as (output, encoder):
        rate = float(stream.average_rate or 0) or 25.0
        for index, frame in enumerate(decoded(container, stream, [])):
            stamp = index / rate if frame.time is None else frame.time
            if index == 0:
                first, display = stamp, display_of(stream, frame)
                encoder.height, encoder.width = _small(*displayed_size(frame, display))
            if stamp - first >= span.end or n >= RATE * LONGEST:
                break
            while span.start + n * span.step <= stamp - first and n < RATE * LONGEST:
                pixels = upright(frame, display, encoder.height, encoder.width)
                image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
                image.pts, image.time_base = n, Fraction(1, RATE)
                output.mux(encoder.encode(image))
                n += 1
        if not n:
            raise MaxiError("no frame of this part decodes")
        output.mux(encoder.encode(None))


@contextmanager
def _encoder(file: Path) -> Iterator[tuple[OutputContainer, VideoStream]]:
    """Open an MP4 to write, and its stream. Raises MaxiError when H.264 cannot be written here."""
    output = av.open(str(file), "w", options={"movflags": "faststart"})
    with output:
        try:
            stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        except (av.FFmpegError, ValueError) as error:  # earlier versions of PyAV raise ValueError
            raise MaxiError(f"H.264 cannot be written here ({error})") from error
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        yield output, stream


def _small(height: int, width: int) -> tuple[int, int]:
    """Return even height and width that fit into HEIGHT and WIDTH."""
    share = min(1.0, HEIGHT / height, WIDTH / width)
    return tuple(max(2, 2 * round(side * share / 2)) for side in (height, width))  # type: ignore[return-value]
