"""What a study is: rows that differ in settings, and what the paper says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.miniature.videos import Style
from maxi.records import Match

Matches = Callable[[Sequence[Match], Mapping[str, str], Sequence[str], int], list[Match]]
"""Replaces the matches: (matches, the true name by video id, the names, seed)."""

Names = Callable[[Sequence[str], int], list[str]]
"""Replaces the list of action names: (names, seed)."""

Scores = NDArray[np.float32]


class Seen(NamedTuple):
    """What a row without training answers from, all of the frozen model.

    z_v (V, D) are the measured videos, z_l (K, D) the names, `z_phrases` (K, D) the names averaged with their phrases,
    `mean` (D,) the mean of the unlabelled videos, and `tau` the softness of shares.
    """

    z_v: Scores
    z_l: Scores
    z_phrases: Scores
    mean: Scores
    tau: float


STATED = "stated"
"""As `match.shares` of a row: a user states the true shares of the names."""


@dataclass(frozen=True)
class Row:
    """A way to train: the settings that differ, by their full names, and a function that replaces the matches.

    With `control` the bags are dealt out to other videos. `answers` is in place of training: it returns the scores (V,
    K). With `share` the row is not trained either, but lies so far between the frozen and the fine-tuned weights of the
    row that the settings name. `baseline` trains one of the baselines, with the true names. `names` replaces the list
    of action names. With `shots` the row is trained on so many labelled videos of each measured name, starting from the
    row `start`, or else from the frozen model. `published` is what the paper prints in its row.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    matches: Matches | None = None
    control: bool = False
    answers: Callable[[Seen], Scores] | None = None
    share: float | None = None
    baseline: str = ""
    names: Names | None = None
    start: str = ""
    shots: int = 0
    published: str = ""


class Claim(NamedTuple):
    """What the paper, or this project, says of two rows: the first is better than the second.

    It is held against the videos of `split`, by default of the first one.
    """

    better: str
    worse: str
    split: str = ""


@dataclass(frozen=True)
class Study:
    """A question, the rows that answer it, and the claims that are held against them.

    `source` says where the paper asks it, and `published` of what its figures are. Every study has the row `frozen`,
    over which gains are. In the rendered world, `worlds` are the regimes in which all rows are trained, and `styles`
    the looks of unseen videos on which they are measured besides.
    """

    title: str
    source: str
    rows: Mapping[str, Row]
    claims: Sequence[Claim] = ()
    published: str = "top-1 on UCF101 / HMDB51 / Kinetics-600"
    worlds: Sequence[str] = ("even",)
    styles: Sequence[Style] = ()
