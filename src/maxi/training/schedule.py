"""The schedule of a training: the videos and the learning rate of each step, and the held-out videos (section 4.2)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Return the number of nearly equal batches, of 2 to `batch_size` videos, into which `n` videos are cut.

    No video is left over, but for the last one of an odd number in batches of 2, which would be alone.
    """
    return max(1, min(math.ceil(n / batch_size), n // 2))


def cut(n: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Return the places of the videos of each batch, for `n` videos."""
    n_steps = n_batches(n, batch_size)
    return np.array_split(np.arange(min(n, n_steps * batch_size)), n_steps)


def epoch_sizes(n: int, config: TrainConfig) -> list[int]:
    """Return how many of `n` videos each epoch has: all of them, or with a curriculum the most confident ones first.

    With a curriculum the number grows until half of the epochs are over; then it is `n`.
    """
    half = max(1, config.epochs / 2)
    shares = [
        config.curriculum + (1 - config.curriculum) * min(1.0, epoch / half)
        for epoch in range(config.epochs)
    ]
    return [min(n, max(2, round(share * n))) for share in shares]


def schedule(bags: Sequence[Bag], config: TrainConfig, seed: int, start: int = 0) -> Iterator[Step]:
    """Yield the steps of all epochs from step `start` on; they depend on (seed, epoch, video ids) alone.

    An epoch is cut into batches of nearly equal size, since a last batch of a few videos would have hardly any
    contrast. With a curriculum `bags` must be ordered from the most confident match to the least.
    """
    by_id = {bag.video: bag for bag in bags}
    first = 0  # number of the epoch's first step
    for epoch, size in enumerate(epoch_sizes(len(bags), config)):
        batches = cut(size, config.batch_size)
        if first + len(batches) > start:
            order = shuffled(list(by_id)[:size], "order", seed, epoch)
            for i, batch in enumerate(batches):
                if first + i >= start:
                    batch_bags = tuple(by_id[order[j]] for j in batch)
                    yield Step(first + i, epoch, batch_bags, i + 1 == len(batches))
        first += len(batches)


def hold_out(bags: Sequence[Bag], share: float, seed: int) -> tuple[list[Bag], list[Bag]]:
    """Split the bags into those to train on, and a random `share` of them to validate with.

    Raises MaxiError when one of the two has fewer than two bags.
    """
    ids = set(shuffled([b.video for b in bags], "validate", seed)[: round(share * len(bags))])
    trained = [b for b in bags if b.video not in ids]
    held_out = [b for b in bags if b.video in ids]
    if share and min(len(trained), len(held_out)) < 2:
        raise MaxiError(
            f"`train.holdout` {share} of {len(bags)} videos leaves {len(trained)} to train on and {len(held_out)} "
            "to validate with; both need two"
        )
    return trained, held_out


def learning_rate(step: int, n_steps: int, n_warmup: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: a linear warm-up to `lr`, then a cosine (section 4.2) down to `min_lr`.

    The cosine begins where the warm-up ends, or at step 0, as `cosine_from` says.
    """
    if step < n_warmup:
        return config.lr * (step + 1) / n_warmup
    begin = n_warmup if config.cosine_from == "warmup" else 0
    progress = (step - begin) / max(1, n_steps - begin)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


class Course:
    """The course of a training: the bags to learn from and to validate with, the steps, and their learning rates.

    `names` are the classes of `cross_entropy`, by default the matched names of the bags. `scores` are the scores of
    the matches by video id, for `curriculum`. Raises MaxiError when there are too few bags, a video has two, a
    curriculum has no scores, or with `cross_entropy` a bag's name is not a class.
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
        videos = Counter(bag.video for bag in bags)
        if len(videos) < len(bags):
            raise MaxiError(
                f"video {videos.most_common(1)[0][0]} has more than one bag; keep one for each video"
            )
        if config.curriculum < 1 and scores is None:
            raise MaxiError(
                "train.curriculum begins with the most confident matches; give their `scores`, or leave it out"
            )
        self.config, self.seed = config, seed
        self.matched = sorted({bag.name for bag in bags})
        self.classes = list(names) or self.matched
        unknown = [name for name in self.matched if name not in self.classes]
        if unknown and config.objective == "cross_entropy":
            raise MaxiError(
                f"a bag has the name {unknown[0]!r}, which is none of the {len(self.classes)} classes; "
                "mend the bag, or add the name to the classes"
            )
        self.bags, self.held_out = hold_out(bags, config.holdout, seed)
        if config.curriculum < 1:
            confidences = scores or {}
            self.bags.sort(key=lambda bag: (-confidences.get(bag.video, -math.inf), bag.video))
        self._sizes = epoch_sizes(len(self.bags), config)
        self.n_steps = sum(n_batches(size, config.batch_size) for size in self._sizes)
        self._n_warmup = round(self.n_steps / config.epochs * config.warmup_epochs)

    def steps(self, start: int) -> Iterator[Step]:
        """Yield the steps from number `start` on."""
        return schedule(self.bags, self.config, self.seed, start)

    def validation(self) -> Iterator[Step]:
        """Yield the held-out bags as steps of epoch -1.

        No training step has this epoch, and draws depend on it, so that each validation has the same clips and texts.
        """
        for batch in cut(len(self.held_out), self.config.batch_size):
            yield Step(-1, -1, tuple(self.held_out[i] for i in batch))

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, by its number."""
        return learning_rate(step, self.n_steps, self._n_warmup, self.config)

    def smallest_batch(self) -> int:
        """Return the number of videos in the smallest batch, of training or validation."""
        sizes = [*self._sizes, len(self.held_out)] if self.held_out else self._sizes
        return min(len(cut(size, self.config.batch_size)[-1]) for size in sizes)

    def digest(self) -> str:
        """Return a digest of all bags and their order."""
        sha = hashlib.sha256()
        for bag in [*self.bags, *self.held_out]:
            sha.update(repr((bag.video, bag.name, [tuple(t) for t in bag.texts])).encode())
        return sha.hexdigest()
