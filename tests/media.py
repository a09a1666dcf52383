"""Write small test videos whose frames carry their number, so that a test knows which it got."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".gif": "gif", ".wmv": "wmv2", ".flv": "flv1"}
BITS = 10


def write_video(
    path: str | Path,
    n_frames: int = 20,
    size: tuple[int, int] = (64, 48),
    fps: float = 10,
    codec: str | None = None,
    seed: int = 0,
    gop: int | None = None,
    *,
    times: Sequence[int] | None = None,
    title: str = "",
    aspect: Fraction | None = None,
) -> Path:
    """Write a moving shape on a background that depends on `seed`; `size` is (width, height).

    `times` are the frames' time stamps in milliseconds, for a variable frame rate. The container is
    the one the file's extension names; `gop` is the number of frames from keyframe to keyframe, `aspect` how many
    times as wide as high a pixel is.
    """
    path = Path(path)
    codec = codec or CODECS.get(path.suffix.lower(), "libx264")
    base = Fraction(1, 1000) if times else 1 / Fraction(fps).limit_denominator(1001)
    with av.open(f"file:{path.absolute()}", "w") as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = _pixel_format(codec, size)
        stream.thread_count = 1
        stream.codec_context.time_base = base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if gop is not None:
            stream.codec_context.gop_size = gop
        if codec == "libvpx-vp9":
            stream.options = {"deadline": "realtime", "cpu-used": "8"}
        for n in range(n_frames):
            frame = av.VideoFrame.from_ndarray(draw(n, size, seed), format="rgb24")
            frame.pts, frame.time_base = (times[n] if times else n), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def draw(n: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Frame `n` as uint8 (H, W, 3): its number in black and white along the top, a shape below."""
    width, height = size
    rng = np.random.default_rng(seed)
    background, colour = rng.integers(0, 256, (2, 3))
    picture = np.full((height, width, 3), background, np.uint8)
    side = max(2, height // 4)
    x = (n * max(1, width // 16) + int(rng.integers(width))) % max(1, width - side)
    y = height // 3 + int(rng.integers(max(1, height - height // 3 - side)))
    picture[y : y + side, x : x + side] = colour
    for bit, (left, right) in enumerate(_cells(width)):
        picture[: height // 4, left:right] = 255 * (n >> bit & 1)
    return picture


def read_number(picture: NDArray[np.uint8]) -> int:
    """The number that `draw` wrote into a frame."""
    height, width = picture.shape[:2]
    rows = picture[1 : max(2, height // 4 - 1)]
    means = [rows[:, left + 1 : right - 1].mean() for left, right in _cells(width)]
    return sum(int(mean > 127) << bit for bit, mean in enumerate(means))


def _cells(width: int) -> list[tuple[int, int]]:
    return [(bit * width // BITS, (bit + 1) * width // BITS) for bit in range(BITS)]


def _pixel_format(codec: str, size: tuple[int, int]) -> str:
    if codec == "gif":
        return "rgb8"
    odd = size[0] % 2 or size[1] % 2
    return "yuv444p" if codec == "libx264" and odd else "yuv420p"
