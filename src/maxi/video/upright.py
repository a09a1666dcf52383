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


class Turn(NamedTuple):
    """What a display matrix asks for: rows become columns, then left becomes right, then top becomes bottom."""

    transpose: bool
    mirror: bool
    flip: bool


def turn_of(frame: av.VideoFrame) -> Turn:
    """Return what the display matrix of a frame asks for, to the nearest quarter turn."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Turn(False, False, False)
    # A pixel at (x, y) is displayed at (a x + c y, b x + d y), but for a shift.
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)


def pixel_aspect(stream: VideoStream) -> float:
    """Return how many times as wide as high the pixels of a stream are displayed; 1 where it does not say."""
    aspect = float(stream.sample_aspect_ratio or 1)
    is_plain = abs(aspect - 1) < SQUARE or not 1 / STRETCH <= aspect <= STRETCH
    return 1.0 if is_plain else aspect


def displayed_size(frame: av.VideoFrame, aspect: float) -> tuple[int, int]:
    """Return height and width in pixels as players display the frame: the shorter side of its pixels is stretched."""
    height, width = round(frame.height / min(1, aspect)), round(frame.width * max(1, aspect))
    return (width, height) if turn_of(frame).transpose else (height, width)


def returned_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of a frame that is returned, which has at most LARGEST pixels."""
    share = min(1.0, math.sqrt(LARGEST / (height * width)))
    height = min(LARGEST, max(1, int(height * share)))
    return height, min(LARGEST // height, max(1, int(width * share)))


def upright(frame: av.VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
    """Return the frame as it is displayed, as RGB, uint8 (height, width, 3)."""
    turn = turn_of(frame)
    rows, columns = (width, height) if turn.transpose else (height, width)
    shrinks = rows * columns < frame.height * frame.width
    # One step from the decoder's own format, so that a large frame is never held as RGB.
    pixels: NDArray[Any] = frame.to_ndarray(
        format="rgb24",
        width=columns,
        height=rows,
        interpolation="AREA" if shrinks else "BILINEAR",
    )
    if turn.transpose:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn.flip else 1, :: -1 if turn.mirror else 1]
