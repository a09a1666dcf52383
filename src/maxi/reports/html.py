"""Parts of pages: filled templates and previews of videos."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxi.records import Video
from maxi.video.decode import centre_indices
from maxi.video.workers import Decoder, Request


def render_page(template: str, *, room: str = "maxi.reports", **context: Any) -> str:
    """Return a page from `templates` of a room; every value is escaped, unless the template marks it as safe."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(room),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def previews(
    decoder: Decoder, videos: Sequence[Video], n_frames: int, *, height: int
) -> dict[str, list[str]]:
    """Return, by video id, `n_frames` JPEGs of at most `height` pixels; [] for a video that no longer decodes."""
    readable = [v for v in videos if v.n_frames > 0]
    requests = (Request.of(v, centre_indices(v.n_frames, n_frames)) for v in readable)
    jpegs: dict[str, list[str]] = {v.id: [] for v in videos}
    for video, (_, frames) in zip(readable, decoder.map(requests), strict=True):
        if isinstance(frames, np.ndarray):
            jpegs[video.id] = [jpeg(frame, height) for frame in frames]
    return jpegs


def strip(decoder: Decoder, video: Video, n_frames: int, *, height: int) -> bytes:
    """Return a JPEG of `n_frames` frames side by side, at most `height` pixels high; raises as `Decoder.one`."""
    frames = decoder.one(Request.of(video, centre_indices(video.n_frames, n_frames)))
    assert isinstance(frames, np.ndarray)
    return _jpeg(np.concatenate(list(frames), axis=1), (2 * height * n_frames, height))


def jpeg(frame: NDArray[np.uint8], height: int) -> str:
    """Return a frame (H, W, 3) as the data URI of a JPEG that fits into `height` and twice that width."""
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(frame, (2 * height, height))).decode()


def _jpeg(pixels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail(size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72, optimize=True)
    return buffer.getvalue()
