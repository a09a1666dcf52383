"""A step's gradient of a tiny CLIP, by one process or those that torchrun started: `contrast.py CLIP OUT REFUSED`.

The first process has no room for graphs of two videos, where REFUSED says: `forth` or only `back`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from maxi.config import TrainConfig
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.records import Bag, BagText
from maxi.training.distributed import World, world
from maxi.training.gradients import Contrast, Share
from maxi.training.schedule import Step

SIGMA = 0.1
# What float32 may lose: sums of about 100 terms, and logits that are 1 / SIGMA times a cosine. A share forgotten,
# counted twice or misplaced is a thousand times that.
ROUNDING = 100 / SIGMA * 2**-24
N = 7  # ragged: no number of processes or chunk size divides it
WORDS = ("photo", "of the video", "person", "playing guitar", "riding", "horse of", "the", "x")


def bags() -> list[Bag]:
    return [
        Bag(
            f"v{i}",
            ("playing guitar", "riding horse", "the")[i % 3],
            tuple(BagText(f"{WORDS[(i * j) % 8]} {WORDS[j]}", "hand") for j in range(1 + i % 4)),
        )
        for i in range(N)
    ]


def clips(n_frames: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (N, n_frames, 3, 32, 32), generator=rng).to(torch.uint8)


def gradient(
    model: VideoCLIP,
    micro: int,
    config: TrainConfig,
    of: World | None = None,
    frozen: VideoCLIP | None = None,
) -> tuple[float, dict[str, Tensor]]:
    """The loss of the step, and the gradient of every parameter."""
    of = of or World()
    model.freeze(config.trainable)
    model.logit_scale.requires_grad_(config.learn_sigma)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    contrast = Contrast(
        model,
        config,
        classes=["playing guitar", "riding horse", "the"],
        seed=0,
        world=of,
        learning=list(parameters.values()),
        frozen=frozen,
    )
    own = of.part(bags())
    at = of.part(range(N))
    share = Share(Step(0, 0, tuple(bags())), [b.video for b in own], clips()[at[0] : at[-1] + 1])
    loss = contrast.backward(share, micro)
    return loss, {n: p.grad for n, p in parameters.items() if p.grad is not None}


def refuse(where: str) -> None:
    """Let this process run out of memory when it encodes two videos at once."""
    encode = VideoCLIP.encode_video

    def limited(self: VideoCLIP, frames: Tensor, kept: Tensor | None) -> Tensor:
        if len(frames) > 1 and (where == "forth" or torch.is_grad_enabled()):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames, kept)

    VideoCLIP.encode_video = limited  # type: ignore[method-assign]


if __name__ == "__main__":
    clip, out, refused = sys.argv[1:]
    here = world()
    if here.first:
        refuse(refused)
    config = TrainConfig(n_bag=3, learn_sigma=True)
    model = load_model(f"clip:{clip}", sigma=SIGMA)
    try:
        gradient(model, 2, config, here)
    except torch.OutOfMemoryError:  # in every process, so that the others do not wait for ever
        loss, found = gradient(model, 1, config, here)
        if here.first:
            save_file({**found, "loss": torch.tensor(loss)}, Path(out))
    here.leave()
    os._exit(0)  # gloo's threads now and then abort a process that ends as usual
