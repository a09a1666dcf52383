"""Which videos a person is asked about, so that few answers tell much and estimates stay honest (beyond the paper).

Each draw takes a video at random: half of the time any one, and half of the time one that tells more, because the
models disagree on it, its margin is small, or its name is rare. A video may be drawn twice, and is asked about once.
The weight of a draw is one over its probability (Hansen and Hurwitz 1943).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maxi.method.metrics import student, wilson
from maxi.randomness import generator

AT_RANDOM = 0.5  # share of the draws that take any video

Reals = NDArray[np.float64]


def probabilities(frozen: NDArray[np.floating], adapted: NDArray[np.floating]) -> Reals:
    """Return the probability of each video at each draw (V,), from the cosines of both models with the names (V, K)."""
    n = len(adapted)
    best = adapted.argmax(1)
    two = np.sort(adapted, axis=1)[:, -2:]
    margin = two[:, -1] - two[:, 0]
    smallness = 1 - np.argsort(np.argsort(margin, kind="stable"), kind="stable") / max(1, n - 1)
    rarity = 1 / np.bincount(best, minlength=adapted.shape[1])[best]
    tells = 2.0 * (best != frozen.argmax(1)) + smallness + rarity
    return np.asarray(AT_RANDOM / n + (1 - AT_RANDOM) * tells / tells.sum())


def draw(chances: Reals, n: int, seed: int, before: int = 0) -> list[int]:
    """Return `n` draws of videos by their probabilities (V,), after the first `before` ones; a video may come twice."""
    draws = generator("asked", seed).choice(len(chances), before + n, p=chances)
    return [int(i) for i in draws[before:]]


def accuracy(right: NDArray[np.bool_], weights: Reals) -> tuple[float, float, float]:
    """Return the share of right answers in the collection and its 95 % interval, in percent: right, weights (A,).

    It is Wilson's interval for as many answers at random as have the variance of these.
    """
    share, variance = _mean(right.astype(float), weights)
    # One right and one wrong answer more keep the variance away from 0.
    more = np.append(right, [True, False]).astype(float)
    _, variance = _mean(more, np.append(weights, [weights.mean()] * 2))
    middle = (share * len(right) + 1) / (len(right) + 2)
    n = middle * (1 - middle) / variance
    return 100 * share, *wilson(share * n, n)


def difference(
    better: NDArray[np.bool_], other: NDArray[np.bool_], weights: Reals
) -> tuple[float, float, float]:
    """Return by how many points one model is right more often than another, and the 95 % interval.

    The interval is Student's; as that of Bonett and Price (2012) it counts one more change to each side.
    """
    change = better.astype(float) - other.astype(float)
    of_change = weights[change != 0].mean() if change.any() else weights.mean()
    value, _ = _mean(change, weights)
    centre, variance = _mean(np.append(change, [1, -1]), np.append(weights, [of_change] * 2))
    half = student(len(change) - 1) * math.sqrt(variance)
    return 100 * value, 100 * max(-1.0, centre - half), 100 * min(1.0, centre + half)


def _mean(values: Reals, weights: Reals) -> tuple[float, float]:
    """Return the weighted mean (Hajek 1971) and its variance, linearised."""
    mean = float(np.average(values, weights=weights))
    n = len(values)
    spread = (weights**2 * (values - mean) ** 2).sum() / weights.sum() ** 2
    return mean, float(spread * n / max(1, n - 1))


def what_more_tells(n: int, low: float, high: float, more: int = 25) -> str:
    """Say what `more` answers would change in an interval of `n` answers, whose width falls with their square root."""
    width = high - low
    after = width * math.sqrt(n / (n + more))
    if width - after < 1:
        return "more answers would hardly change anything"
    return f"with {more} more answers the interval shrinks from {width:.0f} to about {after:.0f} points"
