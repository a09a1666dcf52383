"""Compare the memory of one exact contrast of 64 videos x 16 texts: graphs of a few videos, or one graph of all.

    python benchmarks/memory.py

Both are one step of a training, each in a process of its own; only `micro_batch` differs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file

from inputs import batches_of, clips, make_bags, tower, write_clip
from maxi.config import TrainConfig
from maxi.memory import peak_memory
from maxi.models.video_clip import load_model
from maxi.progress import Shown
from maxi.records import Bag, read_jsonl, write_jsonl
from maxi.training.loop import Training
from maxi.training.schedule import Course
from pairs import kept, run
from scale import in_process

MOST = 0.25  # how much of the memory of one graph small graphs may take
# How far the two updates of a tensor may be apart, as a share of their length. The first step of AdamW has the same
# size for any gradient, so where a gradient is next to nothing, its rounding shows in the step.
FAR = 0.01


@dataclass(frozen=True)
class Sizes:
    videos: int = 64
    frames: int = 2
    texts: int = 16
    micro: int = 4
    towers: dict[str, Any] = field(
        default_factory=lambda: {
            "vision": tower(384, 12, image_size=160, patch_size=16),
            "text": tower(256, 4),
        }
    )


TINY = Sizes(
    4, 1, 4, 1, {"vision": tower(64, 2, image_size=32, patch_size=8), "text": tower(64, 2)}
)


@dataclass(frozen=True)
class Peak:
    """Bytes of memory of a process just before its step, and the most that it ever had; and the loss."""

    before: int
    most: int
    loss: float

    def __str__(self) -> str:
        return f"{self.most / 1e6:9,.0f} MB in all {(self.most - self.before) / 1e6:9,.0f} MB above"


def measure(sizes: Sizes) -> bool:
    """Train one step in both ways; return whether memory and updates keep their limits."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip", **sizes.towers)
        write_jsonl(folder / "bags.jsonl", make_bags(sizes.videos, sizes.texts))
        peaks = []
        for micro in (sizes.videos, sizes.micro):
            peaks.append(in_process(one_step, folder, sizes, micro))
            print(f"graphs of {micro:3} videos {peaks[-1]}", flush=True)
        updates = apart(folder, sizes)
    whole, small = peaks
    print(f"losses {whole.loss} and {small.loss}")
    share = (small.most - small.before) / (whole.most - whole.before)
    print(f"above what there was before the step: {share:.2f}")
    fine = kept("memory of the whole process", small.most / whole.most, MOST, most=True)
    return kept("difference of the updates", updates, FAR, most=True) and fine


def one_step(folder: Path, sizes: Sizes, micro: int) -> Peak:
    """Train one step with graphs of `micro` videos, write the weights to a file and return what memory it took."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = load_model(f"clip:{folder / 'clip'}")
    config = TrainConfig(
        batch_size=sizes.videos,
        micro_batch=micro,
        n_frames=sizes.frames,
        n_bag=sizes.texts,
        epochs=1,
        alpha=1,  # the weights as trained
    )
    frames = clips(sizes.videos, sizes.frames, model.backbone.image_size)
    before = 0

    def progress(items: Iterable[Any], total: int, label: str) -> Shown:
        nonlocal before
        before = psutil.Process().memory_info().rss
        return Shown(items)

    course = Course(read_jsonl(folder / "bags.jsonl", Bag), config)
    training = Training(model, course, batches_of(frames), folder=folder / f"run-{micro}")
    done = training.run(progress)
    most = peak_memory()
    trained = {name: weight.detach() for name, weight in model.backbone.model.named_parameters()}
    save_file(trained, folder / f"{micro}.safetensors")
    return Peak(before, most, done["last_loss"])


def apart(folder: Path, sizes: Sizes) -> float:
    """Return the largest difference between the two updates of any tensor, as a share of the update's length.

    The biases of keys are left out: no attention depends on them, so their gradient is nothing but rounding.
    """
    before = load_file(folder / "clip" / "model.safetensors")
    whole, small = (
        load_file(folder / f"{micro}.safetensors") for micro in (sizes.videos, sizes.micro)
    )
    return max(
        float((small[name] - whole[name]).norm() / (whole[name] - before[name]).norm())
        for name in whole
        if not name.endswith("k_proj.bias")
    )


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
