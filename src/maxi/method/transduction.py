"""Recognition without training, which beside a video's own cosines uses what the whole collection looks like.

`centred` needs other videos only to know their mean. The other two are transductive: they answer for all measured
videos together, and assume that these show all names equally often. Where that is true they gain much, and where it is
not they lose more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxi.method.mixture import fit
from maxi.method.shares import balance

Array = NDArray[np.float32]


def centred(z_v: Array, z_l: Array, mean: Array) -> Array:
    """Return the cosines (V, K) of videos from whose z_v (V, D) the mean (D,) of other videos is taken."""
    moved = z_v - mean
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True) @ z_l.T)


def even_shares(z_v: Array, z_l: Array, tau: float) -> Array:
    """Return cosines (V, K) plus the offsets with which all names come to the same share, by optimal transport."""
    shares = np.full(len(z_l), 1 / len(z_l))
    return np.asarray(z_v @ z_l.T + balance(z_v, z_l, shares, tau))


def even_gaussian(z_v: Array, z_l: Array, tau: float) -> Array:
    """Return the scores (V, K) of one Gaussian a name with a covariance in common and even shares, beside the "
    "text's."""
    return fit(z_v, z_l, tau, even=True).compare(z_v)
