"""Action names that are too few or too many (Tables 5 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from maxi.method.captioning import sentence_bank
from maxi.randomness import shuffled
from maxi.studies.study import Claim, Row, Study
from maxi.text.verb_names import verb_names

MOST = 1200  # verbs that the paper adds at most, to 400 names


def half(names: Sequence[str], seed: int) -> list[str]:
    """Return half of the names, drawn by the seed."""
    chosen = set(shuffled(list(names), "half of the names", seed)[: max(2, len(names) // 2)])
    return [name for name in names if name in chosen]


def doubled(names: Sequence[str], seed: int) -> list[str]:
    """Add as many verbs of captions as there are names."""
    return _with_verbs(names, 1)


def tripled(names: Sequence[str], seed: int) -> list[str]:
    """Add twice as many verbs of captions as there are names."""
    return _with_verbs(names, 2)


def fourfold(names: Sequence[str], seed: int) -> list[str]:
    """Add three times as many verbs of captions as there are names."""
    return _with_verbs(names, 3)


def _with_verbs(names: Sequence[str], times: int) -> list[str]:
    return [*names, *_verbs(tuple(names))[: times * len(names)]]


@cache
def _verbs(names: tuple[str, ...]) -> list[str]:
    """Return the commonest verbs of the shipped sentences that are none of the names."""
    return verb_names(sentence_bank(), MOST, names)


HALF_KEPT = {"match.keep": 0.5}

STUDY = Study(
    "What if the names are too few or too many?",
    "Tables 5 and 9, half of the matches kept; added are verbs of captions, as many as names, twice and three times",
    {
        "all names": Row(HALF_KEPT, published="78.18 / 50.35 / 70.78"),
        "half of the names": Row(HALF_KEPT, names=half, published="75.10 / 48.34 / 69.23"),
        "with as many verbs": Row(HALF_KEPT, names=doubled, published="75.99 / 45.97 / 69.14"),
        "with twice as many": Row(HALF_KEPT, names=tripled, published="75.72 / 45.51 / 69.36"),
        "with three times as many": Row(
            HALF_KEPT, names=fourfold, published="76.14 / 44.84 / 69.23"
        ),
    },
    claims=[
        Claim("half of the names", "frozen"),
        Claim("with three times as many", "frozen"),
        Claim("all names", "half of the names"),
        Claim("all names", "with three times as many"),
    ],
)
