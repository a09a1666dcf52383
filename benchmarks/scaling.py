"""Measure how the time of a training step grows with its batch, from 16 to 1,024 videos: the x of n^x.

    python benchmarks/scaling.py

The steps are those of a training on a small CLIP. Every video is matched to a name of its own, so that no text is
shared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from inputs import batches_of, clips, make_bags, tower, write_clip
from maxi.config import TrainConfig
from maxi.models.video_clip import load_model
from maxi.records import Bag
from maxi.training.loop import Training
from maxi.training.schedule import Course
from pairs import kept, run

MOST = 1.1  # the largest exponent that is fine


@dataclass(frozen=True)
class Sizes:
    batches: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    fitted: int = 128  # the exponent is fitted from this batch on
    frames: int = 2
    texts: int = 16
    steps: int = 3
    towers: dict[str, Any] = field(
        default_factory=lambda: {
            "vision": tower(192, 4, image_size=64, patch_size=16),
            "text": tower(128, 2),
        }
    )


TINY_TOWERS = {"vision": tower(64, 2, image_size=32, patch_size=8), "text": tower(64, 2)}
TINY = Sizes((2, 4, 8), 2, 1, 4, 1, TINY_TOWERS)


def measure(sizes: Sizes) -> bool:
    """Print the time of a step for each batch; return whether the exponent keeps its limit."""
    bags = make_bags(max(sizes.batches), sizes.texts)
    times = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip", **sizes.towers)
        for n in sizes.batches:
            times[n] = step_time(folder, bags[:n], sizes)
            each = f"{1000 * times[n] / n:8.2f} ms/video"
            print(f"{n:5,} videos {times[n]:8.3f} s {each}", flush=True)
    fitted = [n for n in sizes.batches if n >= sizes.fitted]
    x, residual = growth(fitted, [times[n] for n in fitted])
    print(f"fitted from {fitted[0]} to {fitted[-1]:,} videos, time off the fit by {residual:.1%}")
    return kept("exponent", x, MOST, most=True)


def step_time(folder: Path, bags: Sequence[Bag], sizes: Sizes) -> float:
    """Return the median seconds of a step over all the bags at once, after one step to warm up."""
    model, n = load_model(f"clip:{folder / 'clip'}"), len(bags)
    config = TrainConfig(
        batch_size=n,
        micro_batch=8 if n > 8 else 1,
        n_frames=sizes.frames,
        n_bag=sizes.texts,
        epochs=sizes.steps + 1,
        checkpoint_seconds=1e9,
    )
    frames, out = clips(n, sizes.frames, model.backbone.image_size), folder / f"run-{n}"
    Training(model, Course(bags, config), batches_of(frames), folder=out).run()
    rows = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    return median([row["seconds"] for row in rows][1:])


def growth(n: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return the x of n^x, by least squares of the logarithms, and how far the times are off it (root mean square)."""
    x, at_one = np.polyfit(np.log(n), np.log(seconds), 1)
    residuals = np.log(seconds) - (x * np.log(n) + at_one)
    return float(x), float(np.sqrt((residuals**2).mean()))


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
