"""Names as Gaussians: what a collection looks like helps to tell which name each of its videos shows, without labels.

Each name has a mean, all share one covariance, and the text says where to begin: with soft matches to the text, means,
covariance and shares of the names are estimated in turn by expectation and maximisation. With a covariance in common
the logits are linear in a video's embedding, so that only a matrix is kept, however many videos there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.method.shares import chunks, soft

Array = NDArray[np.float32]
Reals = NDArray[np.float64]

# Chosen on the unlabelled videos of three rendered worlds (seeds 0, 50 and 51), by how many matches became right.
ROUNDS = 20  # of expectation and maximisation
RIDGE = 0.2  # share of the covariance that is the same in all directions
FLOOR = 1e-6  # variance in every direction at least, so that equal videos, which have none, can be compared
PULL = 2.0  # videos by which a name's mean is pulled to the mean of all
PRIOR = 1.0  # videos that each name has beforehand
HEAVY = 2.0  # an answered video counts as so many
DIRECTIONS = 50  # a Gaussian counts as if it knew so many independent directions, the text beside it as one softmax


class Linear(NamedTuple):
    """How videos are compared with names: z_v @ slopes + offsets, with slopes (D, K) and offsets (K,)."""

    slopes: Array
    offsets: Array

    def compare(self, z_v: Array) -> Array:
        """Return the scores of videos, on the scale of cosines: (V, D) -> (V, K)."""
        return np.asarray(z_v @ self.slopes + self.offsets)


class Answers(NamedTuple):
    """What was answered of some videos: their rows (A,), the rows of their names (A,), and weights (A,), on average 1.

    A weight is one over the probability with which the video was drawn. `wrong` is the share of wrong answers; where
    that of an answer was measured, because its judge answered videos that a person answered too, it is in `measured`
    (A,), which is NaN for the others.
    """

    videos: NDArray[np.integer]
    names: NDArray[np.integer]
    weights: Reals
    wrong: float = 0.1
    measured: Reals | None = None

    def part(self, chosen: NDArray[np.bool_]) -> Answers:
        """Return some of the answers."""
        measured = None if self.measured is None else self.measured[chosen]
        kept = self.videos[chosen], self.names[chosen], self.weights[chosen]
        return Answers(*kept, self.wrong, measured)

    def shares_wrong(self) -> Reals:
        """Return the probability of each answer to be wrong (A,)."""
        if self.measured is None:
            return np.full(len(self.videos), self.wrong)
        return np.where(np.isnan(self.measured), self.wrong, self.measured)


def fit(
    z_v: Array,
    z_l: Array,
    tau: float,
    *,
    even: bool = False,
    shares: Reals | None = None,
    answers: Answers | None = None,
) -> Linear:
    """Fit the Gaussians to videos z_v (V, D), from the texts z_l (K, D) of names, with cosines / `tau` as their logits.

    The shares of names are estimated, or are those that are given (K,), or with `even` all names get the same one.
    """
    n, (n_names, width) = float(len(z_v)), z_l.shape
    weight = min(1.0, DIRECTIONS / width)
    text = z_l.T.astype(np.float64) / tau
    mean = z_v.mean(0, dtype=np.float64)
    moment = sum((part.T @ part).astype(np.float64) for part in chunks(z_v, n_names))
    if answers:
        some = z_v[answers.videos].astype(np.float64)
        n, moment = n + (HEAVY - 1) * len(some), moment + (HEAVY - 1) * some.T @ some
    moment = moment / n
    balance = np.zeros(n_names) if shares is None else np.log(shares)
    slopes, offsets = text, balance
    for _ in range(ROUNDS):
        counts, sums = _expected(z_v, slopes, offsets)
        if answers:
            more_counts, more_sums = _told(z_v, slopes, offsets, answers)
            counts, sums = counts + more_counts, sums + more_sums
        means = (sums + PULL * mean) / (counts + PULL)[:, None]  # (K, D)
        cross = means.T @ sums
        covariance = moment - (cross + cross.T) / n + means.T @ (counts[:, None] * means) / n
        same = (np.trace(covariance) / width + FLOOR) * np.eye(width)
        gauss = np.linalg.solve((1 - RIDGE) * covariance + RIDGE * same, means.T)  # (D, K)
        if even:
            balance += np.log(n / n_names / np.maximum(counts, 1e-9))
        elif shares is None:
            balance = np.log((counts + PRIOR) / (counts + PRIOR).sum())
        slopes = text + weight * gauss
        offsets = balance - 0.5 * weight * (means.T * gauss).sum(0)
    return Linear((tau * slopes).astype(np.float32), (tau * offsets).astype(np.float32))


def _expected(z_v: Array, slopes: Reals, offsets: Reals) -> tuple[Reals, Reals]:
    """Return how many videos show each name (K,), and the sums of their embeddings (K, D), by soft matches."""
    counts = np.zeros(len(offsets))
    sums = np.zeros((len(offsets), z_v.shape[1]))
    # In float32, in place: with many names and videos this is most of the time of a fit.
    in_short, balance = slopes.astype(np.float32), offsets.astype(np.float32)
    for part in chunks(z_v, len(offsets)):
        shares = part @ in_short
        shares += balance
        shares -= shares.max(1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(1, keepdims=True)
        counts += shares.sum(0, dtype=np.float64)
        sums += shares.T @ part
    return counts, sums


def _told(z_v: Array, slopes: Reals, offsets: Reals, answers: Answers) -> tuple[Reals, Reals]:
    """Return what the answers add to the counts and sums of `_expected`: the answered name in place of soft matches."""
    some = z_v[answers.videos]
    before = soft(some @ slopes + offsets)
    change = HEAVY * believed(before, answers) - before
    return change.sum(0), change.T @ some


def believed(shares: Reals, answers: Answers) -> Reals:
    """Return how probable each name is (A, K) after an answer, from how probable it was before.

    An answer may be wrong, so that one that the model finds absurd counts for little.
    """
    wrong = answers.shares_wrong()
    right = np.repeat(wrong[:, None] / shares.shape[1], shares.shape[1], axis=1)
    right[np.arange(len(shares)), answers.names] += 1 - wrong
    after = shares * right
    return np.asarray(after / after.sum(1, keepdims=True))
