"""Shares of names: matches come to stated shares, shares are estimated, and few names in use are told of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.method import mixture, shares
from maxi.method.matching import match
from maxi.method.transduction import centred, even_gaussian, even_shares

NAMES = [f"name {k}" for k in range(6)]
TAU = 0.1


def world(counts: list[int], noise: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Videos near the names that they show, so many of each: z_v (V, D), z_l (K, D) and the names' places (V,)."""
    rng = np.random.default_rng(3)
    z_l = unit(rng.normal(size=(len(counts), 24)))
    shown = np.repeat(np.arange(len(counts)), counts)
    z_v = unit(z_l[shown] + noise * unit(rng.normal(size=(len(shown), 24))) * 2)
    return z_v, z_l, shown


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_matches_come_to_stated_shares() -> None:
    z_v, z_l, _ = world([40] * 6)
    wanted = np.array([0.5, 0.2, 0.1, 0.1, 0.1, 0.0])
    offsets = shares.balance(z_v, z_l, wanted, TAU)
    soft = shares.soft((z_v @ z_l.T + offsets) / TAU).mean(0)
    assert soft == pytest.approx(wanted, abs=2e-3)
    linear = mixture.Linear(z_l.T, offsets)
    rows = match([str(i) for i in range(240)], z_v, NAMES, z_l, linear=linear)
    counts = Counter(row.name for row in rows)
    assert counts["name 0"] > 100
    assert counts["name 5"] == 0
    cosines = z_v @ z_l.T
    assert all(
        row.score == pytest.approx(cosines[i, NAMES.index(row.name)], abs=1e-5)
        for i, row in enumerate(rows)
    )


def test_shares_are_estimated_without_labels() -> None:
    z_v, z_l, _ = world([120, 60, 60, 0, 0, 0])
    found = shares.estimate(z_v, z_l, TAU)
    assert found.sum() == pytest.approx(1)
    assert found[:3].sum() > 0.9
    assert found.argmax() == 0
    assert shares.effective_number(found) < 4
    assert shares.effective_number(np.full(6, 1 / 6)) == pytest.approx(6)


def test_gaussians_of_one_video_or_of_equal_ones() -> None:
    z_v, z_l, _ = world([1, 0, 0])
    for n in (1, 4):
        assert np.isfinite(mixture.fit(z_v.repeat(n, 0), z_l, TAU).compare(z_v)).all()
        assert np.isfinite(even_gaussian(z_v.repeat(n, 0), z_l, TAU)).all()


@pytest.mark.parametrize("counts", [[60] * 6, [200, 60, 40, 0, 0, 0], [150, 80, 50, 40, 30, 10]])
def test_gaussians_make_more_matches_right(counts: list[int]) -> None:
    """Names are no single points: the videos of a name lie around a place that is not quite its text's."""
    z_v, z_l, shown = world(counts)
    moved = unit(np.random.default_rng(9).normal(size=z_l.shape))
    z_v = unit(z_v + 0.8 * moved[shown])
    before = ((z_v @ z_l.T).argmax(1) == shown).mean()
    after = (mixture.fit(z_v, z_l, TAU).compare(z_v).argmax(1) == shown).mean()
    assert after > before


def test_gaussians_are_those_of_a_plain_sum_over_videos() -> None:
    """One round by loops over videos and names, from the definition."""
    z_v, z_l, _ = world([9] * 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "ROUNDS", 1)
        linear = mixture.fit(z_v, z_l, TAU)
    soft = shares.soft(z_v @ z_l.T / TAU)
    n, width = z_v.shape
    mean, weight = z_v.mean(0), min(1, mixture.DIRECTIONS / width)
    means = np.stack(
        [
            (sum(soft[i, k] * z_v[i] for i in range(n)) + mixture.PULL * mean)
            / (soft[:, k].sum() + mixture.PULL)
            for k in range(6)
        ]
    )
    covariance = np.zeros((width, width))
    for i in range(n):
        for k in range(6):
            away = z_v[i] - means[k]
            covariance += soft[i, k] * np.outer(away, away) / n
    even = (np.trace(covariance) / width + mixture.FLOOR) * np.eye(width)
    covariance = (1 - mixture.RIDGE) * covariance + mixture.RIDGE * even
    counts = soft.sum(0) + mixture.PRIOR
    for k in range(6):
        slope = np.linalg.inv(covariance) @ means[k]
        offset = np.log(counts[k] / counts.sum()) - 0.5 * weight * means[k] @ slope
        assert linear.slopes[:, k] / TAU == pytest.approx(
            z_l[k] / TAU + weight * slope, rel=1e-3, abs=1e-3
        )
        assert linear.offsets[k] / TAU == pytest.approx(offset, rel=1e-3, abs=1e-3)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z_v, z_l, _ = world([30] * 6)
    whole, fitted = shares.estimate(z_v, z_l, TAU), mixture.fit(z_v, z_l, TAU)
    monkeypatch.setattr(shares, "CHUNK", 60)
    assert shares.estimate(z_v, z_l, TAU) == pytest.approx(whole, abs=1e-6)
    assert mixture.fit(z_v, z_l, TAU).compare(z_v) == pytest.approx(fitted.compare(z_v), abs=1e-4)


def test_few_names_in_use_are_told_of() -> None:
    counts = [60, 60] + [0] * 10
    z_v, z_l, _ = world(counts)
    assert "only about 2 of the 12 names" in shares.warning(z_v, z_l, TAU)
    z_v, z_l, _ = world([20] * 12)
    assert shares.warning(z_v, z_l, TAU) == ""
    assert shares.warning(z_v[:, :], z_l[:4], TAU) == ""  # of few names nothing is said


def test_a_margin_is_the_distance_to_the_next_name() -> None:
    z_v, z_l, _ = world([10] * 6)
    rows = match([str(i) for i in range(60)], z_v, NAMES, z_l, keep=0.5, margin=True)
    ordered = np.sort(z_v @ z_l.T, axis=1)
    assert [row.score for row in rows] == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=1e-5)
    kept = [row.score for row in rows if row.kept]
    assert len(kept) == 30
    assert min(kept) >= max(row.score for row in rows if not row.kept)
    (alone,) = match(["a"], z_v[:1], NAMES[:1], z_l[:1], margin=True)
    assert alone.score == pytest.approx(float(z_v[0] @ z_l[0]), abs=1e-5)


def test_transductive_rows_gain_where_their_assumption_holds_and_lose_where_not() -> None:
    for counts, better in (([60] * 6, True), ([240, 60, 60, 0, 0, 0], False)):
        z_v, z_l, shown = world(counts)
        z_v = unit(z_v + 0.2 * z_l[0])  # the frozen model's habit
        right = (z_v @ z_l.T).argmax(1) == shown
        for answer in (even_shares, even_gaussian):
            balanced = answer(z_v, z_l, TAU).argmax(1) == shown
            assert (balanced.mean() > right.mean()) == better


def test_centring_takes_the_mean_away() -> None:
    z_v, z_l, _ = world([10] * 6)
    mean = z_v.mean(0)
    expected = unit(z_v - mean) @ z_l.T
    assert centred(z_v, z_l, mean) == pytest.approx(expected, abs=1e-6)


def test_a_file_of_shares_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shares.tsv"
    path.write_text("Name 1\t30\nname 0\t10\n\n")
    assert shares.read_shares(path, NAMES[:2]).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name 0\t1\n", "'name 1' has no share; add it"),
        ("name 0\t1\nnobody\t1\n", ":2: 'nobody' is not one of the 2 action names"),
        ("name 0\tmany\n", ":1: 'many' is no share"),
        ("name 0\t-1\n", ":1: '-1' is no share"),
        ("name 0\tnan\n", ":1: 'nan' is no share"),
        ("name 0\t0\nname 1\t0\n", "all shares are 0"),
        ("name 0\n", "is not one of the 2 action names; write a name, a tab and its share"),
    ],
)
def test_a_wrong_file_of_shares_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "shares.tsv"
    path.write_text(text)
    with pytest.raises(MaxiError) as error:
        shares.read_shares(path, NAMES[:2])
    assert told in str(error.value)
    with pytest.raises(MaxiError, match=r"cannot be read .*check match\.shares"):
        shares.read_shares(tmp_path / "none.tsv", NAMES[:2])
