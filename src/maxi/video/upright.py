"""How a frame is displayed: turned and mirrored by its display matrix, with square pixels, and not too large."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

LARGEST = 2**21
"""Pixels of a frame that is returned; those of a 1080p video are fewer. A larger frame is shrunk as it is read."""

SQUARE = 0.02
"""Pixels that are nearly square stay as they are: nobody sees the difference, and stretching would only blur."""

STRETCH = 16
"""Pixels that are said to be longer than this in one direction are a mistake of the file."""


class Display(NamedTuple):
    """How the frames of a file are displayed.

    Pixels are stretched to squares; `aspect` is how many times as wide as high they are. Then rows become columns, left
    becomes right, and top becomes bottom, where the display matrix asks for it.
    """

    aspect: float
    transpose: bool = False
    mirror: bool = False
    flip: bool = False


def display_of(stream: VideoStream, first: av.VideoFrame) -> Display:
    """Return how a stream is displayed, by its first frame; turns are rounded to quarters."""
    aspect = pixel_aspect(stream)
    # Only the first frame is asked: PyAV binds side data and frame in a cycle, which keeps the frame in memory.
    data: Any = first.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Display(aspect)
    # A pixel at (x, y) is displayed at (a x + c y, b x + d y), but for a shift.
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Display(aspect, True, c < 0, b < 0)
    return Display(aspect, False, a < 0, d < 0)


def pixel_aspect(stream: VideoStream) -> float:
    """Return how many times as wide as high the pixels of a stream are displayed; 1 where it does not say."""
    aspect = float(stream.sample_aspect_ratio or 1)
    is_plain = abs(aspect - 1) < SQUARE or not 1 / STRETCH <= aspect <= STRETCH
    return 1.0 if is_plain else aspect


def displayed_size(frame: av.VideoFrame, display: Display) -> tuple[int, int]:
    """Return height and width in pixels as players display the frame: the shorter side of its pixels is stretched."""
    height = round(frame.height / min(1, display.aspect))
    width = round(frame.width * max(1, display.aspect))
    return (width, height) if display.transpose else (height, width)


def returned_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of a frame that is returned, which has at most LARGEST pixels."""
    share = min(1.0, math.sqrt(LARGEST / (height * width)))
    height = min(LARGEST, max(1, int(height * share)))
    return height, min(LARGEST // height, max(1, int(width * share)))


def upright(frame: av.VideoFrame, display: Display, height: int, width: int) -> NDArray[np.uint8]:
    """Return the frame as it is displayed, as RGB, uint8 (height, width, 3)."""
    rows, columns = (width, height) if display.transpose else (height, width)
    shrinks = rows * columns < frame.height * frame.width
    # One step from the decoder's own format, so that a large frame is never held as RGB.
    pixels: NDArray[Any] = frame.to_ndarray(
        format="rgb24",
        width=columns,
        height=rows,
        interpolation="AREA" if shrinks else "BILINEAR",
    )
    if display.transpose:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if display.flip else 1, :: -1 if display.mirror else 1]
