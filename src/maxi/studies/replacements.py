"""Replaced matches: true ones, and wrong ones as controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maxi.randomness import shuffled
from maxi.records import Match


def true_matches(
    rows: Sequence[Match], truth: Mapping[str, str], names: Sequence[str], seed: int
) -> list[Match]:
    """Replace every name by the true one of the video; videos that show none of the names are left out."""
    return [
        replace(row, name=truth[row.video], kept=True)
        for row in rows
        if truth.get(row.video) in names
    ]


def permuted_names(
    rows: Sequence[Match], truth: Mapping[str, str], names: Sequence[str], seed: int
) -> list[Match]:
    """Replace every name by the next one in a random circle, so that equal names stay equal and all are wrong."""
    circle = shuffled(list(names), "permuted names", seed)
    successor = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [replace(row, name=successor[row.name]) for row in rows]
