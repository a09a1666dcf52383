"""Accuracies and their confidence intervals: pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def ranks(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the rank of each video's true label, 0 for the best: scores (V, K), labels (V,) -> (V,).

    A tie counts against the true label, so that a model with constant scores is not called right. Raises MaxiError for
    scores that are not finite, which compare with nothing and so would be called right.
    """
    if not np.isfinite(scores).all():
        broken = int(np.flatnonzero(~np.isfinite(scores).all(1))[0])
        raise MaxiError(
            f"the scores of video {broken + 1} of {len(scores)} are not finite; check the model's weights, "
            "or train again with a lower `train.lr`"
        )
    true_scores = scores[np.arange(len(labels)), labels][:, None]
    rank: NDArray[np.integer] = (scores >= true_scores).sum(1) - 1
    return rank


def answers(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the name that each video is taken for: scores (V, K), labels (V,) -> (V,).

    That is the true label where its rank is 0, else the nearest of the other names.
    """
    others = scores.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    taken: NDArray[np.integer] = np.where(ranks(scores, labels) == 0, labels, others.argmax(1))
    return taken


def top_k(rank: NDArray[np.integer], k: int) -> float:
    """Return the share of videos whose true label is among the `k` best, in percent."""
    return 100.0 * float((rank < k).mean())


def mean_per_class(rank: NDArray[np.integer], labels: NDArray[np.integer]) -> float:
    """Return the top-1 accuracy averaged over the labels that occur, in percent."""
    return 100.0 * float(np.mean([(rank[labels == k] == 0).mean() for k in np.unique(labels)]))


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the average precision of scores (V,) for one name, which is right for the videos in `truth` (V,).

    That is the sum over all thresholds of the precision there, times the recall that the threshold adds; videos of
    equal score are above it together. It is not interpolated. Raises ValueError when no video is right.
    """
    if not truth.any():
        raise ValueError("average precision needs a right video")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of the videos with one score
    hits, n_above = hits[is_last], np.flatnonzero(is_last) + 1
    return float((np.diff(hits, prepend=0) / hits[-1] * (hits / n_above)).sum())


def mean_average_precision(
    scores: NDArray[np.floating], truth: NDArray[np.bool_]
) -> tuple[float, int]:
    """Return the mean over names of the average precision in percent, and over how many names: scores, truth (V, K).

    Names that are right for no video are left out. Raises MaxiError for scores that are not finite.
    """
    if not np.isfinite(scores).all():
        raise MaxiError("scores are not finite; check the model's weights")
    right = np.flatnonzero(truth.any(0))
    precisions = [average_precision(scores[:, k], truth[:, k]) for k in right]
    return 100.0 * float(np.mean(precisions)), len(right)


def majority_rate(labels: NDArray[np.integer]) -> float:
    """Return the top-1 accuracy of always answering the commonest label, in percent."""
    return 100.0 * float(np.bincount(labels).max() / len(labels))


def wilson(right: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the share `right` / `n`, in percent."""
    if n == 0:
        return 0.0, 100.0
    p, z = right / n, Z95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def paired_difference(gained: int, lost: int, n: int) -> tuple[float, float, float]:
    """Return (gained - lost) / n over `n` paired answers, and its 95 % interval (Bonett and Price 2012), in points.

    The interval counts one more pair on each side, so that it is not too narrow when few answers or none changed.
    """
    share_gained, share_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = share_gained - share_lost
    half = Z95 * math.sqrt((share_gained + share_lost - centre**2) / (n + 2))
    return 100 * (gained - lost) / n, 100 * max(-1.0, centre - half), 100 * min(1.0, centre + half)


def normalised_entropy(counts: NDArray[np.integer]) -> float:
    """Return the entropy of `counts` (K,), divided by the largest that so many videos and names allow.

    1 means that all names are equally common, 0 that one name has all videos.
    """
    total = int(counts.sum())
    n_possible = min(total, len(counts))
    if n_possible < 2:
        return 1.0
    p = counts[counts > 0] / total
    return float(-(p * np.log(p)).sum() / math.log(n_possible))


# Student's 97.5 % quantiles for 1 to 30 degrees of freedom, ten a line.
# fmt: off
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


def student(freedom: int) -> float:
    """Return Student's 97.5 % quantile; for more than 30 degrees of freedom that of 30."""
    return _STUDENT[min(max(1, freedom), len(_STUDENT)) - 1]


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of a few independent values and its 95 % interval by Student's t: (mean, low, high).

    Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval over seeds needs at least two seeds")
    mean = float(np.mean(values))
    half = student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def with_interval(gain: float, interval: Sequence[float]) -> str:
    """Write a gain in points and its interval as `+1.5 [-0.4, +3.4]`."""
    low, high = interval
    return f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]"
