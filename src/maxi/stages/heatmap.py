"""Heatmap: show where several models see a text in the frames of a video, side by side and on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maxi.errors import MaxiError
from maxi.method.heatmaps import heatmap
from maxi.reports.heatmap_pictures import grid, png, rows_of, scale_of, write_clip
from maxi.settings import load_config
from maxi.stages.job import fresh_model
from maxi.video.decode import Probe, centre_indices
from maxi.video.workers import Decoder, Request


def write_heatmap(
    video: str,
    text: str,
    specs: Sequence[str],
    out: Path,
    *,
    n_frames: int = 8,
    device: str | None = None,
) -> list[str]:
    """Write a PNG, or with the suffix `.mp4` a short video, and return in lines what is to be seen.

    `specs` are models: runs, saved models or backbones. Raises MaxiError when the video cannot be decoded, a model is
    no CLIP, or two models read frames of other sizes.
    """
    if out.suffix.lower() not in (".png", ".mp4"):
        raise MaxiError(f"{out}: the picture is a .png or an .mp4; give it such a name")
    with Decoder(1) as decoder:
        probe = decoder.one(Request(video))
        assert isinstance(probe, Probe)
        frames = decoder.one(Request(video, tuple(centre_indices(probe.n_frames, n_frames))))
        assert isinstance(frames, np.ndarray)
    maps, crops = {}, None
    for spec in dict.fromkeys(specs):
        model = fresh_model(load_config(backbone=spec, device=device), spec)
        own_crops, maps[spec] = heatmap(model, frames, text)
        if crops is not None and own_crops.shape != crops.shape:
            raise MaxiError(
                f"{spec} reads frames of {own_crops.shape[1]} pixels, and the models before it of {crops.shape[1]}; "
                "make a heatmap of each alone"
            )
        crops = own_crops
    assert crops is not None
    low, high = scale_of(maps)
    rows = rows_of(crops, maps, (low, high))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".png":
        out.write_bytes(png(grid(rows, text, low, high)))
    else:
        write_clip(out, rows, text, low, high)
    means = [
        f"{spec}: mean cosine {m.mean():+.3f}, from {m.min():+.3f} to {m.max():+.3f}"
        for spec, m in maps.items()
    ]
    return [
        f"{out}: {len(crops)} frames, {len(maps)} models, colours from {low:+.3f} to {high:+.3f}",
        *means,
    ]
