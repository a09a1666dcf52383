"""Compare the mask of positives and the loss, forward and backward to the logits, with the released code's loops.

python benchmarks/objective.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import released
from maxi.method.objectives import OBJECTIVES
from pairs import in_turn, kept, run, same

LEAST = 25  # how many times as long the released form has to take


@dataclass(frozen=True)
class Sizes:
    videos: int = 256
    texts: int = 16
    names: int = 400
    pairs: int = 9


TINY = Sizes(videos=8, texts=4, names=5, pairs=1)


def measure(sizes: Sizes) -> bool:
    """Time both on the same random logits, cosines of spread 0.1 over sigma 0.02; return whether limits are kept."""
    rng = torch.Generator().manual_seed(0)
    b, n = sizes.videos, sizes.texts
    logits = (5 * torch.randn(b, b, n, generator=rng)).requires_grad_()
    labels = torch.randint(sizes.names, (b,), generator=rng)
    weight = torch.ones(b, n)
    print(f"{b} videos x {n} texts, {len(labels.unique())} of {sizes.names} names")

    def loss_of(name: str) -> Tensor:  # as training does it
        positives = labels[:, None] == labels[None, :]
        return OBJECTIVES[name](logits + weight.log(), weight > 0, positives)

    def theirs() -> Tensor:
        return released.mil_nce(logits.flatten(1), released.positives(labels))

    def numbers(loss: Tensor) -> list[float]:
        logits.grad = None
        loss.backward()
        assert logits.grad is not None
        return [loss.item(), float(logits.grad.norm()), float(logits.grad[0, 0, 0])]

    fine = same("loss, gradient", numbers(loss_of("mil_nce_outside")), numbers(theirs()))
    for name in ("mil_nce", "mil_nce_outside"):
        pairs = in_turn(
            lambda name=name: numbers(loss_of(name)), lambda: numbers(theirs()), sizes.pairs
        )
        print(f"{name:16}{pairs}", flush=True)
        fine &= kept(name, pairs.ratio, LEAST)
    return fine


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
