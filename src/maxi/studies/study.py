"""What a study is: rows that differ in settings, and what the paper says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from maxi.records import Match

Matches = Callable[[Sequence[Match], Mapping[str, str], Sequence[str], int], list[Match]]
"""Replaces the matches: (matches, the true name by video id, the names, seed)."""


@dataclass(frozen=True)
class Row:
    """A way to train: the settings that differ, by their full names, and a function that replaces the matches.

    With `control` the bags are dealt out to other videos. `published` is what the paper prints in its row.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    matches: Matches | None = None
    control: bool = False
    published: str = ""


class Claim(NamedTuple):
    """What the paper, or this project, says of two rows: the first is better than the second."""

    better: str
    worse: str


@dataclass(frozen=True)
class Study:
    """A question, the rows that answer it, and the claims that are held against them.

    `source` says where the paper asks it, and `published` of what its figures are. Every study has the row `frozen`,
    over which gains are.
    """

    title: str
    source: str
    rows: Mapping[str, Row]
    claims: Sequence[Claim] = ()
    published: str = "top-1 on UCF101 / HMDB51 / Kinetics-600"
