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
DIRECTIONS = 50  # a Gaussian counts as if it knew so many independent directions, the text beside it as one softmax


class Linear(NamedTuple):
    """How videos are compared with names: z_v @ slopes + offsets, with slopes (D, K) and offsets (K,)."""

    slopes: Array
    offsets: Array

    def compare(self, z_v: Array) -> Array:
        """Return the scores of videos, on the scale of cosines: (V, D) -> (V, K)."""
        return np.asarray(z_v @ self.slopes + self.offsets)


def fit(z_v: Array, z_l: Array, tau: float, *, even: bool = False) -> Linear:
    """Fit the Gaussians to videos z_v (V, D), from the texts z_l (K, D) of names, with cosines / `tau` as their logits.

    The shares of names are estimated, or with `even` all names get the same one.
    """
    n, (n_names, width) = len(z_v), z_l.shape
    weight = min(1.0, DIRECTIONS / width)
    text = z_l.T.astype(np.float64) / tau
    mean = z_v.mean(0, dtype=np.float64)
    moment = sum(part.T @ part.astype(np.float64) for part in chunks(z_v, n_names)) / n
    slopes, offsets, balance = text, np.zeros(n_names), np.zeros(n_names)
    for _ in range(ROUNDS):
        counts, sums = _expected(z_v, slopes, offsets)
        means = (sums + PULL * mean) / (counts + PULL)[:, None]  # (K, D)
        cross = means.T @ sums
        covariance = moment - (cross + cross.T) / n + means.T @ (counts[:, None] * means) / n
        same = (np.trace(covariance) / width + FLOOR) * np.eye(width)
        gauss = np.linalg.solve((1 - RIDGE) * covariance + RIDGE * same, means.T)  # (D, K)
        if even:
            balance += np.log(n / n_names / np.maximum(counts, 1e-9))
        else:
            balance = np.log((counts + PRIOR) / (counts + PRIOR).sum())
        slopes = text + weight * gauss
        offsets = balance - 0.5 * weight * (means.T * gauss).sum(0)
    return Linear((tau * slopes).astype(np.float32), (tau * offsets).astype(np.float32))


def _expected(z_v: Array, slopes: Reals, offsets: Reals) -> tuple[Reals, Reals]:
    """Return how many videos show each name (K,), and the sums of their embeddings (K, D), by soft matches."""
    counts = np.zeros(len(offsets))
    sums = np.zeros((len(offsets), z_v.shape[1]))
    for part in chunks(z_v, len(offsets)):
        shares = soft(part @ slopes + offsets)
        counts += shares.sum(0)
        sums += shares.T @ part
    return counts, sums
