"""Regimes of the rendered world: which actions the videos of a collection show, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maxi.randomness import shuffled


class Regime(NamedTuple):
    """How a collection is made up, where the listed names are not all equally common.

    With `tail` the share of a name falls as one over its rank. `occurring` is the share of the listed names that any
    video shows, `off_list` the share of the videos that show no listed name, and `cuts` the number of clips that are
    cut from one recording.
    """

    tail: bool = False
    occurring: float = 1.0
    off_list: float = 0.0
    cuts: int = 1

    def drawn(self, listed: Sequence[str], n: int, others: Sequence[str], seed: int) -> list[str]:
        """Return what each of `n` videos shows; which names are rare or absent is drawn by the seed."""
        order = shuffled(list(listed), "ranks of names", seed)
        names = order[: max(2, round(self.occurring * len(order)))]
        n_recordings = -(-n // self.cuts)
        n_others = round(self.off_list * n_recordings) if others else 0
        ranks = np.arange(1, len(names) + 1)
        counts = shares_to_counts(
            1 / ranks if self.tail else np.ones(len(names)), n_recordings - n_others
        )
        shown = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
        shown += [others[i % len(others)] for i in range(n_others)]
        return [name for name in shown for _ in range(self.cuts)][:n]


def shares_to_counts(shares: np.ndarray, n: int) -> list[int]:
    """Part `n` by shares (K,), which need not add up to 1, by the largest remainders."""
    wanted = shares / shares.sum() * n
    counts = np.floor(wanted).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: n - counts.sum()]] += 1
    return [int(count) for count in counts]


REGIMES = {
    "even": Regime(),
    "long tail": Regime(tail=True),
    "a third occurs": Regime(occurring=1 / 3),
    "a sixth occurs": Regime(occurring=1 / 6),
    "off-list": Regime(off_list=1 / 3),
    "look-alikes": Regime(cuts=5),
}
