"""Matching: nearest name, one threshold, and the warnings about collapse."""

from __future__ import annotations

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.method.matching import match, warnings
from maxi.records import Match

EYE = np.eye(4, dtype=np.float32)
NAMES = ["run", "jump", "sit", "lie"]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_nearest_name_and_score() -> None:
    z_v = unit(np.array([[1.0, 0.5, 0, 0], [0, 0, 0.1, 2.0]]))
    rows = match(["a", "b"], z_v, NAMES, EYE, keep=1.0)
    assert [(r.video, r.name, r.kept) for r in rows] == [("a", "run", True), ("b", "lie", True)]
    assert rows[0].score == pytest.approx(1 / np.sqrt(1.25), abs=1e-6)


@pytest.mark.parametrize(("keep", "n"), [(1.0, 20), (0.9, 18), (0.5, 10), (0.01, 1)])
def test_keep_is_a_share_of_all_videos(keep: float, n: int) -> None:
    rng = np.random.default_rng(0)
    z_v = unit(rng.normal(size=(20, 4)))
    rows = match([str(i) for i in range(20)], z_v, NAMES, EYE, keep=keep)
    assert len(rows) == 20
    kept = [r.score for r in rows if r.kept]
    assert len(kept) == n
    assert not [r for r in rows if not r.kept and r.score > min(kept)]


def test_keep_per_name_is_a_share_of_each_names_videos() -> None:
    rng = np.random.default_rng(0)
    z_v = unit(rng.normal([2, 0, 0, 0], size=(60, 4)))  # nearly all run, with higher cosines
    rows = match([str(i) for i in range(60)], z_v, NAMES, EYE, keep=0.5, per_name=True)
    for name in NAMES:
        scores = {r.score: r.kept for r in rows if r.name == name}
        assert sum(scores.values()) == max(1, round(0.5 * len(scores)))
        assert sorted(scores.values()) == [scores[s] for s in sorted(scores)]


def test_soft_matching_names_the_next_nearest() -> None:
    z_v = unit(np.array([[1.0, 0.5, 0.2, 0]]))
    (row,) = match(["a"], z_v, NAMES, EYE, keep=1.0, top_k=3, tau=0.5)
    assert row.name == "run"
    assert [o.name for o in row.others] == ["jump", "sit"]
    best, second, third, _ = z_v[0]
    assert row.others[0].weight == pytest.approx(np.exp((second - best) / 0.5), abs=1e-5)
    assert row.others[1].weight == pytest.approx(np.exp((third - best) / 0.5), abs=1e-5)
    (row,) = match(["a"], z_v, NAMES, EYE, keep=1.0, top_k=9, tau=1e-9)
    assert [o.weight for o in row.others] == [1e-6] * 3


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    z_v, ids = unit(rng.normal(size=(50, 4))), [str(i) for i in range(50)]
    whole = match(ids, z_v, NAMES, EYE)
    monkeypatch.setattr("maxi.method.matching.CHUNK", 28)
    assert match(ids, z_v, NAMES, EYE) == whole


def test_nothing_to_match_and_broken_embeddings() -> None:
    with pytest.raises(MaxiError, match="at least one"):
        match([], np.empty((0, 4), np.float32), NAMES, EYE)
    with pytest.raises(MaxiError, match="video b: its embedding is not finite"):
        match(["a", "b"], np.array([[1, 0, 0, 0], [np.nan] * 4], np.float32), NAMES, EYE)


def test_collapsed_matches_are_warned_of() -> None:
    rows = [Match(str(i), "run", 0.5, True) for i in range(9)] + [Match("x", "sit", 0.5, True)]
    found = warnings(rows, NAMES)
    assert len(found) == 2
    assert "90% of the videos match one name, 'run'" in found[0]
    even = [Match(str(i), NAMES[i % 4], 0.5, True) for i in range(12)]
    assert warnings(even, NAMES) == []
