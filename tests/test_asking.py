"""Asking: draws whose probabilities are known, and intervals that hold as often as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maxi.method.asking import AT_RANDOM, accuracy, difference, draw, probabilities, what_more_tells
from maxi.run import Run
from maxi.stages.asking import weights_of
from maxi.stages.judgements import add, append

K = 12


def models(n: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines of two models that often agree, of which the second is better, and the true names."""
    rng = np.random.default_rng(seed)
    y, base = rng.integers(0, K, n), rng.normal(size=(n, K))
    tables = []
    for more in (0.0, 0.3):
        scores = base + 0.5 * rng.normal(size=(n, K))
        scores[np.arange(n), y] += 3 * strength + more
        tables.append(scores)
    return tables[0], tables[1], y


def test_half_of_the_draws_take_any_video() -> None:
    frozen, adapted, _ = models(200, 0.6)
    chances = probabilities(frozen, adapted)
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= AT_RANDOM / 200
    differ = frozen.argmax(1) != adapted.argmax(1)
    assert chances[differ].mean() > 1.5 * chances[~differ].mean()


def test_draws_go_on_where_they_were() -> None:
    chances = np.full(50, 0.02)
    assert draw(chances, 30, seed=1)[:20] == draw(chances, 20, seed=1)
    assert draw(chances, 30, seed=1)[20:] == draw(chances, 10, seed=1, before=20)
    assert draw(chances, 30, seed=1) != draw(chances, 30, seed=2)


@pytest.mark.parametrize("strength", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("n", [40, 80])
def test_intervals_cover_the_truth_over_a_thousand_judges(strength: float, n: int) -> None:
    frozen, adapted, y = models(600, strength)
    rights = [table.argmax(1) == y for table in (frozen, adapted)]
    chances = probabilities(frozen, adapted)
    truth = 100 * rights[1].mean(), 100 * (rights[1].mean() - rights[0].mean())
    covered, values = [], []
    for number in range(1000):
        drawn = draw(chances, n, number)
        weights = 1 / chances[drawn]
        better, other = rights[1][drawn], rights[0][drawn]
        found = accuracy(better, weights), difference(better, other, weights)
        covered.append([low <= t <= high for t, (_, low, high) in zip(truth, found, strict=True)])
        values.append([value for value, _, _ in found])
    of_accuracy, of_difference = np.mean(covered, axis=0)
    assert 0.925 < of_accuracy < 0.975
    assert 0.94 < of_difference < 0.99
    assert np.mean(values, axis=0) == pytest.approx(truth, abs=1.5)


def test_equal_answers_still_have_an_interval() -> None:
    weights = np.ones(40)
    value, low, high = accuracy(np.ones(40, dtype=bool), weights)
    assert (value, high) == (100, 100)
    assert 80 < low < 97
    value, low, high = difference(np.ones(40, dtype=bool), np.ones(40, dtype=bool), weights)
    assert value == 0
    assert low < -2 < 2 < high


def test_what_more_answers_tell() -> None:
    assert what_more_tells(25, 40, 60) == (
        "with 25 more answers the interval shrinks from 20 to about 14 points"
    )
    assert what_more_tells(1000, 49, 51) == "more answers would hardly change anything"


def test_draws_that_are_still_open_do_not_weigh(tmp_path: Path) -> None:
    run = Run(tmp_path)
    append(run.asked, [{"video": video, "probability": 0.1} for video in "abacbda"])
    assert weights_of(run) == {}
    add(run, [{"video": video, "kind": "none"} for video in "ab"])
    assert weights_of(run) == {"a": 20, "b": 10}
    add(run, [{"video": "d", "kind": "none"}])  # "c" was passed over
    assert weights_of(run) == {"a": 30, "b": 20, "d": 10}
    append(run.asked, [{"video": video, "probability": 0.1} for video in "eaa"])
    assert weights_of(run) == {"a": 30, "b": 20, "d": 10}
