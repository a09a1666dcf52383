"""Shares of names in a collection: matches that come to stated shares, and shares that the videos suggest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.text.names import same

Array = NDArray[np.float32]

CHUNK = 2**22  # cosines computed at a time
MANY_NAMES = 8  # with fewer, nothing is said of how many occur
FEW = 0.45  # of the names in use: fewer than this share of them are few
SAMPLE = 5000  # videos on which that is estimated
ROUNDS, CLOSE = 100, 1e-3


def balance(z_v: Array, z_l: Array, shares: NDArray[np.float64], tau: float) -> Array:
    """Return what is to be added to the cosines of each name, so that the names come to these shares: (K,).

    This is optimal transport of the videos z_v (V, D) to the names z_l (K, D) with the masses `shares` (K,), which add
    up to 1, and with entropy: softmax((cosine + offset) / tau), averaged over the videos, has the shares (Cuturi 2013).
    A name with the share 0 gets -inf.
    """
    offsets = np.where(shares > 0, 0.0, -np.inf)
    some = shares > 0
    for _ in range(ROUNDS):
        had = _mean_softmax(z_v, z_l, offsets, tau)
        step = tau * np.log(shares[some] / np.maximum(had[some], 1e-12))
        offsets[some] += step
        if np.abs(step).max() < CLOSE * tau:
            break
    return offsets.astype(np.float32)


def estimate(z_v: Array, z_l: Array, tau: float) -> NDArray[np.float64]:
    """Return the shares of the names (K,) that make the videos most likely, without any label.

    softmax(cosine / tau) is taken for the probability of a name when all are equally common, and the shares are found
    by expectation and maximisation (Saerens et al. 2002). Shares of names that nothing shows fall towards 0.
    """
    shares = np.full(len(z_l), 1 / len(z_l))
    for _ in range(ROUNDS):
        before, shares = (
            shares,
            _mean_softmax(z_v, z_l, tau * np.log(np.maximum(shares, 1e-12)), tau),
        )
        if np.abs(shares - before).max() < CLOSE / len(z_l):
            break
    return shares


def effective_number(shares: NDArray[np.float64]) -> float:
    """Return how many names are in use: the exponential of the entropy of their shares (K,)."""
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def soft(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the softmax of logits (V, K) over the names."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def read_shares(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Read the shares of names, a name, a tab and a number a line, and return them so that they add up to 1: (K,).

    Numbers may be counts. Raises MaxiError for a file that cannot be read, a line without a number, an unknown name,
    and a name that has no share.
    """
    rows = {same(name): k for k, name in enumerate(names)}
    shares = np.full(len(names), np.nan)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MaxiError(
            f"{path}: the shares of names cannot be read ({error}); check match.shares"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, share = line.rpartition("\t")
        if same(name) not in rows:
            raise MaxiError(
                f"{path}:{number}: {name.strip()[:100]!r} is not one of the {len(names)} action names; write a name, a "
                "tab and its share"
            )
        shares[rows[same(name)]] = _share(share, f"{path}:{number}")
    if np.isnan(shares).any():
        missing = names[int(np.flatnonzero(np.isnan(shares))[0])]
        raise MaxiError(f"{path}: {missing!r} has no share; add it, with 0 if no video shows it")
    if not shares.sum():
        raise MaxiError(f"{path}: all shares are 0; give some name a larger one")
    return np.asarray(shares / shares.sum())


def _share(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value < np.inf:
        raise MaxiError(f"{where}: {text.strip()[:20]!r} is no share; write a number of 0 or more")
    return value


class Signs(NamedTuple):
    """What can be told of a collection without any label.

    `in_use` is the effective number of names by the estimated shares, as a share of the names (or of the videos, where
    these are fewer), and `margin` the mean cosine by which the best name is above the next.
    """

    in_use: float
    margin: float

    @property
    def few(self) -> bool:
        """Whether most of the names seem not to occur."""
        return self.in_use < FEW


def signs(z_v: Array, z_l: Array, tau: float) -> Signs:
    """Return the signs of a collection from videos z_v (V, D), of which a sample is taken, and names z_l (K, D)."""
    sample = z_v[:: max(1, len(z_v) // SAMPLE)]
    best = np.sort(sample @ z_l.T, axis=1)[:, -2:]
    number = effective_number(estimate(sample, z_l, tau))
    return Signs(number / min(len(z_l), len(sample)), float((best[:, -1] - best[:, 0]).mean()))


def warning(z_v: Array, z_l: Array, tau: float) -> str:
    """Return a sentence when most of the names seem not to occur, else nothing; z_v (V, D), z_l (K, D)."""
    if len(z_l) < MANY_NAMES or not (found := signs(z_v, z_l, tau)).few:
        return ""
    number = found.in_use * min(len(z_l), len(z_v))
    return (
        f"the videos seem to show only about {number:.0f} of the {len(z_l)} names; remove those that you know to be "
        "absent, and measure on labelled videos (--eval) before you trust the adapted model."
    )


def _mean_softmax(
    z_v: Array, z_l: Array, offsets: NDArray[np.float64], tau: float
) -> NDArray[np.float64]:
    """Return softmax((cosine + offset) / tau) averaged over the videos: (K,)."""
    total = np.zeros(len(z_l))
    for chunk in chunks(z_v, len(z_l)):
        total += soft((chunk @ z_l.T + offsets) / tau).sum(0)
    return total / len(z_v)


def chunks(z_v: Array, n_names: int) -> Iterator[Array]:
    """Yield z_v (V, D) in parts whose scores with `n_names` names are few enough for memory."""
    size = max(1, CHUNK // n_names)
    for start in range(0, len(z_v), size):
        yield z_v[start : start + size]
