"""Refinement: what some answers tell of a whole collection, and what they must not be taken to tell."""

from __future__ import annotations

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.method.classification import Tuning
from maxi.method.mixture import Answers, believed
from maxi.method.refinement import (
    FALSE_NONE,
    Refined,
    calibration_error,
    concentration,
    conformal,
    refine,
    shares_with_limits,
    warmth,
    weights_of_fits,
)

K, D, N = 8, 24, 400
TAU = 0.1


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(shares: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Videos (N, D) around a mean of each name, texts (K, D) some way off these, and the true names."""
    draw = np.random.default_rng(seed)
    means = unit(draw.normal(size=(K, D)))
    y = draw.choice(K, N, p=shares)
    z_v = unit(means[y] + 0.35 * draw.normal(size=(N, D)))
    return z_v, unit(means + 0.25 * draw.normal(size=(K, D))), y


def answered(y: np.ndarray, n: int, *, wrong: float = 0.0, seed: int = 0) -> Answers:
    draw = np.random.default_rng(seed)
    videos = draw.permutation(len(y))[:n]
    names = y[videos].copy()
    mistaken = draw.random(n) < wrong
    names[mistaken] = draw.integers(0, K, mistaken.sum())
    return Answers(videos, names, np.ones(n))


def right(refined: Refined, z_v: np.ndarray, y: np.ndarray, rest: np.ndarray) -> float:
    return float((refined.linear.compare(z_v)[rest].argmax(1) == y[rest]).mean())


EVEN = np.full(K, 1 / K)
FEW = np.array([0.5, 0.4, 0.1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("shares", [EVEN, FEW], ids=["even", "few"])
def test_forty_answers_help_the_videos_that_were_not_answered(shares: np.ndarray) -> None:
    z_v, z_l, y = world(shares)
    answers = answered(y, 40)
    refined = refine(z_v, z_l, TAU, answers)
    assert refined is not None
    rest = np.setdiff1d(np.arange(N), answers.videos)
    before = float(((z_v @ z_l.T)[rest].argmax(1) == y[rest]).mean())
    assert right(refined, z_v, y, rest) > before + 0.05
    assert refined.held_out.shape == (40, K)
    assert set(refined.parts) == {"shares", "head"}
    assert all(0 <= share <= 1 for share in refined.parts.values())
    assert list(refined.fits) == ["text alone", "shares", "shares and head"]
    again = refine(z_v, z_l, TAU, answers)
    assert again is not None
    assert (again.linear.slopes == refined.linear.slopes).all()


def test_fits_count_as_far_as_they_foretell_answers() -> None:
    weights = weights_of_fits([-2.0, -1.0, -1.0], 40)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] == weights[2] > 0.499
    assert weights_of_fits([-2.0, -1.99], 10)[1] == pytest.approx(1 / (1 + np.exp(-0.05)))


def test_few_answers_teach_nothing() -> None:
    z_v, z_l, y = world(EVEN)
    assert refine(z_v, z_l, TAU, answered(y, 9)) is None


def test_wrong_answers_are_noticed_and_do_little_harm() -> None:
    z_v, z_l, y = world(EVEN)
    refined = refine(z_v, z_l, TAU, answered(y, 120, wrong=0.4))
    clean = refine(z_v, z_l, TAU, answered(y, 120))
    assert refined is not None
    assert clean is not None
    assert clean.wrong <= 0.1 < 0.2 <= refined.wrong
    rest = np.arange(N)
    before = float(((z_v @ z_l.T).argmax(1) == y).mean())
    assert right(refined, z_v, y, rest) > before - 0.01


def test_an_absurd_answer_is_hardly_believed() -> None:
    shares = np.array([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3]])
    after = believed(shares, Answers(np.arange(2), np.array([1, 1]), np.ones(2), wrong=0.3))
    assert after.sum(1) == pytest.approx([1, 1])
    assert after[0, 1] < 0.15
    assert after[1, 1] > 0.7


def test_a_judge_who_was_measured_is_believed_by_that() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    answers = Answers(
        np.arange(3), np.array([1, 1, 1]), np.ones(3), 0.1, np.array([0.0, 0.8, np.nan])
    )
    after = believed(shares, answers)
    assert after[0].tolist() == [0.0, 1.0]  # a judge who never errs
    assert after[1, 1] < 0.3 < after[2, 1]
    assert answers.part(np.array([False, True, True])).shares_wrong().tolist() == [0.8, 0.1]


def test_even_counts_make_a_concentrated_prior_and_few_names_a_loose_one() -> None:
    assert concentration(np.full(8, 5.0)) > 5
    assert concentration(np.array([20.0, 20, 0, 0, 0, 0, 0, 0])) < 0.3


def test_shares_have_limits_that_grow_narrower() -> None:
    few, many = (shares_with_limits(n * FEW) for n in (20, 200))
    for found in (few, many):
        assert found[:, 0].sum() == pytest.approx(1)
        assert (found[:, 1] <= found[:, 0]).all()
        assert (found[:, 0] <= found[:, 2]).all()
    assert (many[:3, 2] - many[:3, 1] < few[:3, 2] - few[:3, 1]).all()


def test_the_temperature_is_found_and_makes_confidence_right() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(2000, K))
    shares = np.exp(scores / 0.5)
    shares /= shares.sum(1, keepdims=True)
    names = np.array([draw.choice(K, p=row) for row in shares])
    told = Answers(np.arange(len(names)), names, np.ones(len(names)))
    tau, wrong = warmth(scores, told, 1.0)
    assert tau == pytest.approx(0.5, rel=0.15)
    assert wrong <= 0.05
    assert calibration_error(scores / tau, names) < 4 < calibration_error(scores / 0.1, names)


def test_the_limit_of_none_holds_for_new_videos() -> None:
    """Split conformal: over draws, at most a tenth of new scores falls below the limit."""
    draw = np.random.default_rng(0)
    below = []
    for _ in range(2000):
        scores = draw.normal(size=41)
        limit = conformal(scores[:40])
        assert limit is not None
        below.append(scores[40] < limit)
    assert np.mean(below) == pytest.approx(FALSE_NONE, abs=0.03)
    assert conformal(np.arange(8.0)) is None
    assert conformal(np.arange(9.0)) == 0


def test_a_refinement_changes_logits_and_knows_none() -> None:
    z_v, z_l, y = world(EVEN)
    refined = refine(z_v, z_l, TAU, answered(y, 40))
    assert refined is not None
    cosines = z_v @ z_l.T
    own = Tuning(refined.tau, 0.5, refined.linear)
    assert (own.logits(z_v, cosines) == refined.linear.compare(z_v)).all()
    assert Tuning(0.5).logits(z_v, cosines) == pytest.approx(cosines / 0.5)
    assert (own.is_none(0.4), own.is_none(0.6), Tuning(0.5).is_none(0.4)) == (True, False, None)
    assert Tuning(0.5, limit=0.0).is_none(-0.1) is True
    with pytest.raises(MaxiError, match="features of 24 numbers, not of 12"):
        own.logits(z_v[:, :12], cosines)
