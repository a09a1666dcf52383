"""Bags: what goes in, in which order, and how they are drawn from."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from maxi.config import BagConfig
from maxi.errors import MaxiError
from maxi.method.bags import bag_statistics, build_bags, sample_bag, shuffle_bags
from maxi.records import Bag, BagText, Caption, Match, Other, Phrases
from maxi.text.verbs import VerbParser

MATCHES = [
    Match("a", "clapping", 0.9, True),
    Match("b", "high jump", 0.8, True),
    Match("c", "clapping", 0.1, False),
    Match("d", "Nothing Known", 0.7, True),
]
PHRASES = [
    Phrases("clapping", ("smacking hands", "clapping"), "shipped"),
    Phrases("high jump", ("leap over a bar",), "x"),
]
CAPTIONS = {
    "a": Caption("a", ("a woman holding her hands", "a woman clapping"), "retrieval"),
    "b": Caption("b", ("a man running on a track",) * 8, "retrieval"),
}


def bags(config: BagConfig | None = None) -> dict[str, Bag]:
    return {
        b.video: b for b in build_bags(MATCHES, PHRASES, CAPTIONS.values(), VerbParser(), config)
    }


def test_what_is_in_a_bag() -> None:
    found = bags()
    assert list(found) == ["a", "b", "d"]  # c is below the threshold
    a = {t.text: t.source for t in found["a"].texts}
    assert "clapping" not in a  # the name itself is in every prompt already
    assert a["smacking hands"] == "phrase:shipped"
    assert a["clap"] == "phrase:shipped+name+caption:retrieval"
    assert a["holding"] == a["hold"] == "caption:retrieval"
    assert found["d"].texts == () or {t.source for t in found["d"].texts} == {"name"}
    for bag in found.values():
        assert len({t.text for t in bag.texts}) == len(bag.texts)


def test_names_that_no_video_has_are_not_parsed() -> None:
    class Listening(VerbParser):
        heard: list[str] = []  # noqa: RUF012

        def phrases(self, texts: Sequence[str]) -> list[list[str]]:
            self.heard.extend(texts)
            return super().phrases(texts)

    many = [Phrases(f"name {n}", (f"doing thing {n}",), "shipped") for n in range(100)]
    parser = Listening()
    found = list(build_bags(MATCHES, [*many, *PHRASES], CAPTIONS.values(), parser))
    assert found == list(bags().values())
    assert not [text for text in parser.heard if text.startswith(("name", "doing thing"))]


def test_parts_can_be_left_out() -> None:
    only_names = bags(BagConfig(phrases=False, captions=False))
    assert all(bag.texts == () for bag in only_names.values())
    without = bags(BagConfig(captions=False))
    assert not [t for bag in without.values() for t in bag.texts if t.source.startswith("caption")]
    verbs = bags(BagConfig(phrases=False, caption_parts="verbs"))
    assert {t.text for t in verbs["b"].texts} == {"run", "running"}


def test_weights_and_a_drop_list(tmp_path: Path) -> None:
    file = tmp_path / "weights.txt"
    file.write_text("Jogging\njog\t0\nrun\t0.25\nnever there\n", encoding="utf-8")
    plain, weighted = bags(), bags(BagConfig(weights=str(file)))
    for video, bag in weighted.items():
        left = [t for t in plain[video].texts if t.text not in ("jog", "jogging")]
        assert [t.text for t in bag.texts] == [t.text for t in left]
        assert all(t.weight == (0.25 if t.text == "run" else 1) for t in bag.texts)
    for wrong, message in (("run\tx", "'x' is not a weight"), ("run\t-1", "'-1' is not a weight")):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(MaxiError, match=message):
            bags(BagConfig(weights=str(file)))
    with pytest.raises(MaxiError, match=r"cannot be read \(No such file"):
        bags(BagConfig(weights=str(tmp_path / "none.txt")))


def test_soft_matches_bring_their_phrases_under_their_own_name() -> None:
    soft = [Match("a", "clapping", 0.9, True, (Other("high jump", 0.25),))]
    (bag,) = build_bags(soft, PHRASES, CAPTIONS.values(), VerbParser())
    plain = bags()["a"]
    assert bag.texts[: len(plain.texts)] == plain.texts
    more = bag.texts[len(plain.texts) :]
    assert BagText("leap over a bar", "phrase:x", 0.25, "high jump") in more
    assert {(t.weight, t.name) for t in more} == {(0.25, "high jump")}
    assert len({t.text for t in bag.texts}) == len(bag.texts)


BIG = Bag("v1", "run", tuple(BagText(f"text {i}", "hand") for i in range(40)))


def test_draws_depend_on_seed_epoch_and_video_alone() -> None:
    first = sample_bag(BIG, 16, seed=0, epoch=0)
    assert len(set(first)) == 16
    assert first == sample_bag(BIG, 16, seed=0, epoch=0)
    others = [
        sample_bag(BIG, 16, seed=1, epoch=0),
        sample_bag(BIG, 16, seed=0, epoch=1),
        sample_bag(Bag("v2", "run", BIG.texts), 16, seed=0, epoch=0),
    ]
    assert all(other != first for other in others)


def test_a_short_bag_comes_whole_and_without_its_name() -> None:
    bag = Bag("v", "run", (BagText("jog", "hand"), BagText("run", "hand"), BagText("dash", "hand")))
    assert [t.text for t in sample_bag(bag, 16, seed=0, epoch=0)] == ["jog", "dash"]


def test_every_text_is_drawn_as_often() -> None:
    counts: dict[str, int] = {}
    for epoch in range(400):
        for text in sample_bag(BIG, 16, seed=0, epoch=epoch):
            counts[text] = counts.get(text, 0) + 1
    assert len(counts) == 40
    assert max(abs(n - 160) for n in counts.values()) < 60


def test_texts_are_drawn_by_their_weight() -> None:
    """A light text seldom takes the place of a heavy one, and over the epochs it counts by its weight."""
    heavy = [BagText(f"own {i}", "hand") for i in range(10)]
    light = [BagText(f"other {i}", "hand", 0.05, "jump") for i in range(60)]
    bag, n_epochs = Bag("v", "run", (*heavy, *light)), 400
    for n_bag in (1, 4, 8, 16):
        drawn, shares = Counter[str](), Counter[str]()
        for epoch in range(n_epochs):
            texts = sample_bag(bag, n_bag, seed=0, epoch=epoch)
            assert texts == sample_bag(bag, n_bag, seed=0, epoch=epoch)
            assert len({t.text for t in texts}) == n_bag
            total = sum(t.weight for t in texts)
            for text in texts:
                kind = text.text.split()[0]
                drawn[kind] += 1
                shares[kind] += text.weight / total / n_epochs
                assert text.name == (None if kind == "own" else "jump")
        assert drawn["own"] / n_epochs > min(n_bag, 10) * 0.6
        assert abs(shares["own"] - 10 / 13) < 0.08


def test_drawn_weights_keep_the_size_of_the_bags_even() -> None:
    """Equal weights stay as they are; one that is a little larger changes little; none is counted twice."""
    texts = [BagText(f"text {i}", "hand", 2.5) for i in range(30)]
    assert {t.weight for t in sample_bag(Bag("v", "run", tuple(texts)), 16, seed=0, epoch=0)} == {
        2.5
    }
    texts = [BagText(f"text {i}", "hand", 1.8 if i == 7 else 1.0) for i in range(30)]
    drawn = sample_bag(Bag("v", "run", tuple(texts)), 16, seed=0, epoch=0)
    assert sum(t.weight for t in drawn) == pytest.approx(16, rel=0.1)
    whole = Bag("v", "run", tuple(texts[:16]))
    assert sample_bag(whole, 16, seed=0, epoch=0) == whole.texts
    for extreme in (1e-300, 1e300):
        odd = Bag("v", "run", (BagText("odd", "hand", extreme), *texts))
        drawn = sample_bag(odd, 16, seed=0, epoch=0)
        assert all(0 < t.weight < math.inf for t in drawn)
        assert ("odd" in {t.text for t in drawn}) == (extreme > 1)


def test_a_short_bag_is_refilled_as_the_released_code_does() -> None:
    bag = Bag("v", "run", tuple(BagText(f"text {i}", "hand") for i in range(5)))
    repeats = [
        [t.weight for t in sample_bag(bag, 16, seed=0, epoch=epoch, refill=True)]
        for epoch in range(20)
    ]
    assert all(sorted(weights) == [3, 3, 3, 3, 4] for weights in repeats)
    assert len({tuple(weights) for weights in repeats}) == 5
    for n_bag in (4, 5):
        refilled = sample_bag(bag, n_bag, seed=0, epoch=0, refill=True)
        assert refilled == sample_bag(bag, n_bag, seed=0, epoch=0)
    assert sample_bag(Bag("v", "run"), 16, seed=0, epoch=0, refill=True) == ()


def drawn() -> str:
    found = bags()
    return f"{found} {sample_bag(BIG, 16, seed=3, epoch=2)} {shuffle_bags([*found.values()], 1)}"


def test_same_bags_and_draws_under_another_hash_seed() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_bags as t; print(t.drawn(), end='')"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == drawn()


def test_the_control_keeps_every_bag_and_moves_it() -> None:
    rows = [Bag(str(i), f"name {i}", (BagText(f"text {i}", "hand"),)) for i in range(50)]
    dealt = shuffle_bags(rows, seed=0)
    assert [b.video for b in dealt] == [b.video for b in rows]
    assert sorted(b.name for b in dealt) == sorted(b.name for b in rows)
    assert sum(a.name == b.name for a, b in zip(dealt, rows, strict=True)) < 10


def test_statistics() -> None:
    found = bag_statistics([BIG, Bag("w", "sit")])
    assert found["n"] == 2
    assert found["empty"] == 1
    assert found["agreement"] is None
    assert bag_statistics(list(bags().values()))["agreement"] == 0.5  # "clap" of a, nothing of b
    assert found["largest"] == 40
