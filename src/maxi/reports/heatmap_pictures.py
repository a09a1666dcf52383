"""Pictures of heatmaps: a grid of frames and models as PNG, and a short video, with one printed scale of colours."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 160  # pixels of a frame in the grid
LINE = 22  # pixels of a line of text
GAP = 4
SHARE = 0.55  # of the colour over the frame
FRAMES_PER_SECOND = 4

Frames = NDArray[np.uint8]


def coloured(crops: Frames, maps: NDArray[np.float32], low: float, high: float) -> Frames:
    """Lay the colours of cosines (T, G, G) over frames (T, S, S, 3); `low` and `high` are the ends of the scale."""
    from matplotlib import colormaps

    size = crops.shape[1:3]
    pictures = []
    for crop, cosines in zip(crops, maps, strict=True):
        shares = ((cosines - low) / max(high - low, 1e-9)).clip(0, 1)
        smooth = Image.fromarray(shares.astype(np.float32)).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        colours = 255 * colormaps["turbo"](np.asarray(smooth))[..., :3]
        pictures.append((1 - SHARE) * crop + SHARE * colours)
    frames: Frames = np.stack(pictures).round().astype(np.uint8)
    return frames


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib, which has most scripts of names."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 12)


def scale_of(maps: Mapping[str, NDArray[np.float32]]) -> tuple[float, float]:
    """Return the lowest and the highest cosine of all models and frames: the ends of the scale that they share."""
    return min(float(m.min()) for m in maps.values()), max(float(m.max()) for m in maps.values())


def grid(rows: Mapping[str, Frames], text: str, low: float, high: float) -> Image.Image:
    """Return a picture with a row of frames for each model under its name, and the scale of colours below."""
    n_frames = max(len(frames) for frames in rows.values())
    width = n_frames * (SIDE + GAP) + GAP
    height = len(rows) * (SIDE + LINE + GAP) + 2 * LINE + GAP
    picture = Image.new("RGB", (max(width, 420), height), "white")
    draw, font = ImageDraw.Draw(picture), _font()
    top = GAP
    for name, frames in rows.items():
        draw.text((GAP, top + 4), name, "black", font)
        for k, frame in enumerate(frames):
            tile = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            picture.paste(tile, (GAP + k * (SIDE + GAP), top + LINE))
        top += SIDE + LINE + GAP
    _draw_scale(picture, top, text, low, high)
    return picture


def _draw_scale(picture: Image.Image, top: int, text: str, low: float, high: float) -> None:
    """Draw the scale of colours with its ends, and the text that the cosines are with."""
    from matplotlib import colormaps

    draw, font = ImageDraw.Draw(picture), _font()
    ramp = (255 * colormaps["turbo"](np.linspace(0, 1, 160))[:, :3]).astype(np.uint8)
    picture.paste(Image.fromarray(np.repeat(ramp[None], 12, 0)), (GAP + 60, top + 4))
    draw.text((GAP, top + 4), f"{low:+.3f}", "black", font)
    draw.text((GAP + 228, top + 4), f"{high:+.3f}", "black", font)
    draw.text((GAP, top + LINE), f"cosine of a patch with: {text}", "black", font)


def png(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_clip(path: Path, rows: Mapping[str, Frames], text: str, low: float, high: float) -> None:
    """Write an MP4 in which the frames of all models follow each other, one under the other, as in `grid`."""
    n_frames = max(len(frames) for frames in rows.values())
    pictures = [
        grid({name: frames[k : k + 1] for name, frames in rows.items()}, text, low, high)
        for k in range(n_frames)
    ]
    width, height = (side - side % 2 for side in pictures[0].size)  # H.264 has even sides
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            pixels = np.asarray(picture.crop((0, 0, width, height)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def rows_of(
    crops: Frames, maps: Mapping[str, NDArray[np.float32]], scale: Sequence[float]
) -> dict[str, Frames]:
    """Return the frames as they are, and under each model's name with its colours."""
    low, high = scale
    return {"frames": crops, **{name: coloured(crops, m, low, high) for name, m in maps.items()}}
