"""Recognition without training, which beside a video's own cosines uses what the whole collection looks like.

`centred` needs other videos only to know their mean. The other two are transductive: they answer for all measured
videos together, and assume that these show all names equally often. Where that is true they gain much, and where it is
not they lose more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxi.method.shares import balance, soft

Array = NDArray[np.float32]

ROUNDS = 10  # of expectation and maximisation
RIDGE = 0.1  # share of the covariance that is the same in all directions
PULL = 2.0  # videos that a name's mean is pulled to the mean of all by
TRUST = (
    0.1  # weight of the Gaussian beside the text: features of one video are far from independent
)


def centred(z_v: Array, z_l: Array, mean: Array) -> Array:
    """Return the cosines (V, K) of videos from whose z_v (V, D) the mean (D,) of other videos is taken."""
    moved = z_v - mean
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True) @ z_l.T)


def even_shares(z_v: Array, z_l: Array, tau: float) -> Array:
    """Return cosines (V, K) plus the offsets with which all names come to the same share, by optimal transport."""
    return np.asarray(z_v @ z_l.T + balance(z_v, z_l, _even(z_l), tau))


def even_gaussian(z_v: Array, z_l: Array, tau: float) -> Array:
    """Return the logits (V, K) of one Gaussian a name with a covariance in common and even shares, beside the text's.

    They are fitted by expectation and maximisation, from the matches to the text: each pass estimates means and
    covariance of the names from soft matches, and balances the sum of both logits.
    """
    text = z_v @ z_l.T / tau
    scores = text + balance(z_v, z_l, _even(z_l), tau) / tau
    mean = z_v.mean(0, dtype=np.float64)
    for _ in range(ROUNDS):
        shares = soft(scores)  # (V, K)
        counts = shares.sum(0)
        sums = shares.T @ z_v  # (K, D)
        means = (sums + PULL * mean) / (counts + PULL)[:, None]
        spread = z_v.T @ z_v.astype(np.float64) - means.T @ sums - sums.T @ means
        spread = (spread + means.T @ (counts[:, None] * means)) / len(z_v)
        ridge = np.trace(spread) / len(mean)
        spread = (1 - RIDGE) * spread + RIDGE * ridge * np.eye(len(mean))
        slopes = np.linalg.solve(spread, means.T)  # (D, K)
        gauss = z_v @ slopes - 0.5 * (means.T * slopes).sum(0)
        logits = text + TRUST * gauss
        scores = logits + _balancing(logits)
    return np.asarray(scores, dtype=np.float32)


def _even(z_l: Array) -> NDArray[np.float64]:
    return np.full(len(z_l), 1 / len(z_l))


def _balancing(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return offsets with which logits (V, K) come to even shares."""
    ones = np.eye(logits.shape[1], dtype=np.float32)
    return balance(logits.astype(np.float32), ones, _even(ones), 1.0).astype(np.float64)
