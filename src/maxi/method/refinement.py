"""Refinement: what some answered videos tell of a whole collection, beyond the paper.

From the answers come the shares of the names, Gaussians over the features of all videos that begin at the texts, one
temperature, and a limit below which a video shows none of the names. Each part counts as far as it makes held-out
answers more likely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.method.mixture import Answers, Array, Linear, Reals, believed, fit
from maxi.method.shares import soft
from maxi.randomness import generator

FOLDS = 5
FEWEST = 10  # answers with a listed name, from which anything is learnt
TEMPERATURES = np.geomspace(0.005, 0.5, 70)
SPREAD = 1.0  # of the logarithm of a temperature around the one that the model was trained with
CONCENTRATIONS = np.geomspace(0.05, 50.0, 40)
WRONG = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # shares of wrong answers that are tried
RARE = 5.0  # how much rarer the larger ones are beforehand, as so many right answers
MIDDLE, WIDTH = 2.0, 1.5  # of the logarithm of the concentration of shares, beforehand
TINY = 1e-300
COUNTS = 0.5  # of a held-out answer in the weights of fits; chosen on the videos of seed 0 and of a part of seed 1
FALSE_NONE = 0.1  # share of the videos of listed names that may fall below the limit for none
SETS: tuple[tuple[str, ...], ...] = ((), ("shares",), ("shares", "head"))
"""The parts that are tried; the temperature is always found, since it changes no answer."""


class Refined(NamedTuple):
    """A refinement of the names that it was fitted for.

    `linear` gives logits at the temperature 1; `tau` is that of cosines of other names. `parts` says how much each
    part counts, from 0 to 1: the fits with and without it are averaged by what they make of held-out answers. `fits`
    says of how many percent of these each fit alone is right.
    `held_out` are the logits of the answered videos (A, K) by fits without them. `shares` are those of the names in the
    collection with their 95 % limits (K, 3), `wrong` is the share of wrong answers, and `limit` the best cosine below
    which a video shows none of the names, None with too few answers.
    """

    linear: Linear
    tau: float
    parts: dict[str, float]
    fits: dict[str, float]
    held_out: Array
    shares: Reals
    wrong: float
    limit: float | None


def refine(
    z_v: Array, z_l: Array, tau: float, answers: Answers, *, seed: int = 0
) -> Refined | None:
    """Fit a refinement to videos z_v (V, D) and names z_l (K, D), of a model whose temperature is `tau`.

    `answers` are of listed names; their share of wrong ones is estimated. Returns None where there are too few of them.
    """
    if len(answers.videos) < FEWEST:
        return None
    cosines = z_v[answers.videos] @ z_l.T
    usual, wrong = warmth(cosines, answers, tau)
    answers = answers._replace(wrong=wrong)
    fits = [_cross_fitted(z_v, z_l, usual, answers, parts, seed) for parts in SETS]
    weights = weights_of_fits([one.likelihood for one in fits], len(answers.videos))

    def averaged(arrays: Iterable[Array]) -> Array:
        pairs = zip(weights, arrays, strict=True)
        return np.asarray(sum(np.float32(weight) * array for weight, array in pairs))

    held_out = averaged(one.held_out for one in fits)
    last, wrong = warmth(held_out, answers, 1.0)
    slopes, offsets = (averaged(parts) for parts in zip(*(one.linear for one in fits), strict=True))
    of_sets = list(zip(weights, SETS, strict=True))
    return Refined(
        Linear(slopes / np.float32(last), offsets / np.float32(last)),
        usual * fits[0].warmth,
        {part: sum(weight for weight, of in of_sets if part in of) for part in SETS[-1]},
        {" and ".join(of) or "text alone": one.right for of, one in zip(SETS, fits, strict=True)},
        held_out / np.float32(last),
        shares_with_limits(_counts(cosines / usual, answers)),
        wrong,
        conformal(cosines.max(1)),
    )


class _Fit(NamedTuple):
    """A fit to all answers, its logits of them by fits without them (A, K), and how good these are.

    Both are at the temperature 1; `warmth` is what the logits were divided by. `right` is in percent.
    """

    linear: Linear
    held_out: Array
    warmth: float
    likelihood: float
    right: float


def _cross_fitted(
    z_v: Array, z_l: Array, usual: float, answers: Answers, parts: Sequence[str], seed: int
) -> _Fit:
    folds = generator("folds", seed).permutation(len(answers.videos)) % FOLDS
    logits = np.empty((len(answers.videos), len(z_l)), dtype=np.float32)
    for fold in range(FOLDS):
        without = _fitted(z_v, z_l, usual, answers.part(folds != fold), parts)
        logits[folds == fold] = without.compare(z_v[answers.videos[folds == fold]])
    last, wrong = warmth(logits, answers, 1.0)
    logits /= np.float32(last)
    found = likelihood(logits, answers._replace(wrong=wrong))
    right = 100 * float(np.average(logits.argmax(1) == answers.names, weights=answers.weights))
    whole = _fitted(z_v, z_l, usual, answers, parts)
    linear = Linear(*(array / np.float32(last) for array in whole))
    return _Fit(linear, logits, last, found, right)


def weights_of_fits(likelihoods: Sequence[float], n: int) -> list[float]:
    """Return the weights of several fits, which add up to 1, from the mean log-likelihood of `n` held-out answers.

    They are as probabilities after the answers, of which each counts by `COUNTS`: to choose the best fit alone would
    follow the chance of few answers.
    """
    logs = COUNTS * n * np.array(likelihoods)
    weights = np.exp(logs - logs.max())
    return [float(weight) for weight in weights / weights.sum()]


def _fitted(z_v: Array, z_l: Array, usual: float, answers: Answers, parts: Sequence[str]) -> Linear:
    """Return how to compare videos with names, as logits."""
    shares = None
    if "shares" in parts:
        pseudo = _pseudo_counts(_counts(z_v[answers.videos] @ z_l.T / usual, answers))
        shares = pseudo / pseudo.sum()
    if "head" in parts:
        linear = fit(z_v, z_l, usual, shares=shares, answers=answers)
        return Linear(*(np.float32(1 / usual) * array for array in linear))
    offsets = np.zeros(len(z_l)) if shares is None else np.log(shares)
    return Linear((z_l.T / usual).astype(np.float32), offsets.astype(np.float32))


def warmth(scores: NDArray[np.floating], answers: Answers, usual: float) -> tuple[float, float]:
    """Return the temperature, and the share of wrong answers, that make the answers most likely.

    A right answer has the probability softmax(scores (A, K) / temperature); a wrong one is any name. Beforehand the
    logarithm of the temperature is normal around that of the `usual` one, and wrong answers are rare.
    """
    grid = TEMPERATURES * usual / math.sqrt(TEMPERATURES[0] * TEMPERATURES[-1])
    found = []
    for tau in grid:
        beforehand = -0.5 * (math.log(tau / usual) / SPREAD) ** 2
        of_right = np.exp(_log_likelihoods(scores / tau, answers.names))
        for wrong in WRONG:
            each = _of_answers(of_right, answers._replace(wrong=wrong), scores.shape[1])
            total = each.sum() + beforehand + RARE * math.log(1 - wrong)
            found.append((float(total), float(tau), wrong))
    return max(found)[1:]


def likelihood(logits: NDArray[np.floating], answers: Answers) -> float:
    """Return the mean log-likelihood of answers, of which some are wrong, from logits (A, K), each with its weight."""
    of_right = np.exp(_log_likelihoods(logits, answers.names))
    return float(
        np.average(_of_answers(of_right, answers, logits.shape[1]), weights=answers.weights)
    )


def _of_answers(of_right: Reals, answers: Answers, n_names: int) -> Reals:
    """Return the log-likelihood of each answer (A,), from that of the right ones: a wrong one is any name."""
    wrong = answers.shares_wrong()
    return np.asarray(np.log(np.maximum((1 - wrong) * of_right + wrong / n_names, TINY)))


def _log_likelihoods(logits: NDArray[np.floating], names: NDArray[np.integer]) -> Reals:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted[np.arange(len(names)), names] - np.log(np.exp(shifted).sum(1)))


def concentration(counts: Reals) -> float:
    """Return the concentration of the symmetric Dirichlet prior that makes counts (K,) of names most likely.

    It is large where the names are equally common, and small where few names have most of the videos (empirical Bayes).
    """
    n, n_names = float(counts.sum()), len(counts)
    used = counts[counts > 0]

    def found(alpha: float) -> float:
        each = sum(math.lgamma(count + alpha) - math.lgamma(alpha) for count in used)
        beforehand = 0.5 * (math.log(alpha / MIDDLE) / WIDTH) ** 2
        whole = math.lgamma(n_names * alpha) - math.lgamma(n + n_names * alpha)
        return whole + each - beforehand

    return float(max(CONCENTRATIONS, key=found))


def _counts(logits: NDArray[np.floating], answers: Answers) -> Reals:
    """Return the weighted counts of names (K,), which add up to the effective number of answers (Kish 1965)."""
    weights = answers.weights * answers.weights.sum() / (answers.weights**2).sum()
    return np.asarray((weights[:, None] * believed(soft(logits), answers)).sum(0))


def _pseudo_counts(counts: Reals) -> Reals:
    """Return the Dirichlet posterior of the shares of names (K,)."""
    return counts + concentration(counts)


def shares_with_limits(counts: Reals, seed: int = 0) -> Reals:
    """Return the shares of names with their 95 % limits under the Dirichlet posterior: (K, 3) of share, low, high."""
    pseudo = _pseudo_counts(counts)
    draws = generator("shares of names", seed).dirichlet(pseudo, 4000)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return np.stack([pseudo / pseudo.sum(), low, high], axis=1)


def conformal(scores: Array) -> float | None:
    """Return the limit below which at most the share `FALSE_NONE` of videos like these fall; None with too few.

    That is split conformal prediction: the scores (A,) of answered videos of listed names, which did not take part in
    training, have the rank of a new one equally often.
    """
    rank = math.floor((len(scores) + 1) * FALSE_NONE)
    return float(np.sort(scores)[rank - 1]) if rank > 0 else None


def reliability(
    logits: NDArray[np.floating], names: NDArray[np.integer], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Return in percent how confident a model is, and how often it is right, in bins of about equally many videos.

    Each bin is (confidence, right, number of videos), from the least confident on; logits (A, K), true names (A,).
    """
    confidence, right = soft(logits).max(1), logits.argmax(1) == names
    order = np.argsort(confidence, kind="stable")
    return [
        (100 * float(confidence[part].mean()), 100 * float(right[part].mean()), len(part))
        for part in np.array_split(order, min(bins, len(order)))
    ]


def calibration_error(logits: NDArray[np.floating], names: NDArray[np.integer]) -> float:
    """Return the expected calibration error in points: how far confidence is from accuracy, over `reliability`."""
    bins = reliability(logits, names)
    return sum(n * abs(sure - right) for sure, right, n in bins) / len(names)
