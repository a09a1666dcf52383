"""Metrics against figures computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.method.metrics import (
    majority_rate,
    mean_interval,
    mean_per_class,
    normalised_entropy,
    paired_difference,
    ranks,
    top_k,
    wilson,
)

SCORES = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
LABELS = np.array([0, 2, 2, 2])


def test_ranks_and_accuracies() -> None:
    rank = ranks(SCORES, LABELS)
    assert rank.tolist() == [0, 1, 2, 0]
    assert top_k(rank, 1) == 50
    assert top_k(rank, 2) == 75
    assert mean_per_class(rank, LABELS) == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert majority_rate(LABELS) == 75


def test_constant_scores_know_nothing() -> None:
    assert top_k(ranks(np.zeros((4, 3)), LABELS), 1) == 0


def test_wilson_interval() -> None:
    low, high = wilson(9, 65)
    assert (low, high) == (pytest.approx(7.46, abs=0.05), pytest.approx(24.24, abs=0.05))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(100)


def test_paired_difference() -> None:
    gain, low, high = paired_difference(1, 0, 65)
    assert gain == pytest.approx(100 / 65)
    assert low < 0 < high  # one clip of 65 is no evidence
    assert paired_difference(0, 0, 65)[0] == 0
    assert paired_difference(0, 0, 65)[2] == pytest.approx(4.14, abs=0.01)
    assert paired_difference(30, 5, 100)[1] > 0


def test_mean_interval() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert high - mean == pytest.approx(4.303 / 3**0.5)
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([1.0])


def test_entropy() -> None:
    assert normalised_entropy(np.array([5, 5])) == pytest.approx(1)
    assert normalised_entropy(np.array([10, 0, 0])) == 0
    assert normalised_entropy(np.array([1, 0, 0])) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused_never_right(value: float) -> None:
    scores = np.array([[0.1, 0.2], [value, 0.1]])
    with pytest.raises(MaxiError, match="video 2 of 2 are not finite"):
        ranks(scores, np.array([1, 0]))
