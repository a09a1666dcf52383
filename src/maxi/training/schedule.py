"""Which videos are learned from in which step, which validate, and at which learning rate (section 4.2)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.randomness import shuffled
from maxi.records import Bag


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number from 0, its epoch, the bags of its videos, and whether it ends the epoch."""

    number: int
    epoch: int
    bags: tuple[Bag, ...]
    ends: bool = False


def n_batches(n: int, batch_size: int) -> int:
    """Steps per epoch: no video is dropped, and no batch is a small rest."""
    return max(1, round(n / batch_size))


def epoch_sizes(n: int, config: TrainConfig) -> list[int]:
    """Videos of each epoch: all, or with a curriculum the most confident, more each time until half of the epochs."""
    half = max(1, config.epochs / 2)
    shares = [
        config.curriculum + (1 - config.curriculum) * min(1.0, epoch / half)
        for epoch in range(config.epochs)
    ]
    return [min(n, max(2, round(share * n))) for share in shares]


def schedule(bags: Sequence[Bag], config: TrainConfig, seed: int, start: int = 0) -> Iterator[Step]:
    """The steps of all epochs from step `start` on; a function of (seed, epoch, video ids) alone.

    An epoch is cut into batches of nearly equal size, since a rest of one or two videos has hardly a contrast. With a
    curriculum the bags come with the most confident match first.
    """
    by_id = {bag.video: bag for bag in bags}
    number = 0
    for epoch, size in enumerate(epoch_sizes(len(bags), config)):
        per_epoch = n_batches(size, config.batch_size)
        if number + per_epoch > start:
            order = shuffled(list(by_id)[:size], "order", seed, epoch)
            for i, part in enumerate(np.array_split(np.arange(size), per_epoch)):
                if number + i >= start:
                    chosen = tuple(by_id[order[j]] for j in part)
                    yield Step(number + i, epoch, chosen, i + 1 == per_epoch)
        number += per_epoch


def hold_out(bags: Sequence[Bag], share: float, seed: int) -> tuple[list[Bag], list[Bag]]:
    """The bags that are trained on, and the `share` of them that validates; MaxiError when one is too small."""
    chosen = set(shuffled([b.video for b in bags], "validate", seed)[: round(share * len(bags))])
    trained = [b for b in bags if b.video not in chosen]
    held_out = [b for b in bags if b.video in chosen]
    if share and min(len(trained), len(held_out)) < 2:
        raise MaxiError(
            f"`train.holdout` {share} of {len(bags)} videos leaves {len(trained)} to train on and {len(held_out)} "
            "to validate with; both need two"
        )
    return trained, held_out


def learning_rate(step: int, n_steps: int, n_warmup: int, config: TrainConfig) -> float:
    """Linear warm-up to `lr`, then a cosine to `min_lr` that begins where the warm-up ends (section 4.2)."""
    if step < n_warmup:
        return config.lr * (step + 1) / n_warmup
    begin = n_warmup if config.cosine_from == "warmup" else 0
    along = (step - begin) / max(1, n_steps - begin)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * along))


class Course:
    """What a training goes through: the bags it learns from and validates with, its steps and their learning rates.

    `classes` are those of `cross_entropy`, by default the `matched` names of the bags; `scores` are the matches', by
    video id, for `curriculum`. Raises MaxiError when there are too few bags, or one of no class.
    """

    def __init__(
        self,
        bags: Sequence[Bag],
        config: TrainConfig,
        *,
        seed: int = 0,
        names: Sequence[str] = (),
        scores: Mapping[str, float] | None = None,
    ) -> None:
        if len(bags) < 2:
            raise MaxiError(
                "training needs at least two kept videos; add videos or raise `match.keep`"
            )
        self.config, self.seed = config, seed
        self.matched = sorted({bag.name for bag in bags})
        self.classes = list(names) or self.matched
        strange = [name for name in self.matched if name not in self.classes]
        if strange and config.objective == "cross_entropy":
            raise MaxiError(
                f"{strange[0]!r} is the name of a bag and none of the {len(self.classes)} classes; "
                "mend the bag or add the name"
            )
        self.bags, self.held_out = hold_out(bags, config.holdout, seed)
        if config.curriculum < 1:
            confidence = scores or {}
            self.bags.sort(key=lambda bag: (-confidence.get(bag.video, -math.inf), bag.video))
        self._sizes = epoch_sizes(len(self.bags), config)
        self.n_steps = sum(n_batches(size, config.batch_size) for size in self._sizes)
        self._n_warmup = round(self.n_steps / config.epochs * config.warmup_epochs)

    def steps(self, start: int) -> Iterator[Step]:
        """The steps from number `start` on."""
        return schedule(self.bags, self.config, self.seed, start)

    def validation(self) -> Iterator[Step]:
        """The held-out bags as steps of an epoch -1, which no training step has: after every epoch the same."""
        n = len(self.held_out)
        for part in np.array_split(np.arange(n), n_batches(n, self.config.batch_size)):
            yield Step(-1, -1, tuple(self.held_out[i] for i in part))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, by its number."""
        return learning_rate(step, self.n_steps, self._n_warmup, self.config)

    def smallest_batch(self) -> int:
        """The fewest videos of a batch."""
        sizes = [*self._sizes, len(self.held_out)] if self.held_out else self._sizes
        return min(size // n_batches(size, self.config.batch_size) for size in sizes)

    def digest(self) -> str:
        """Digest of all bags, with their order."""
        total = hashlib.sha256()
        for bag in [*self.bags, *self.held_out]:
            total.update(repr((bag.video, bag.name, [tuple(t) for t in bag.texts])).encode())
        return total.hexdigest()
