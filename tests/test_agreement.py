from __future__ import annotations

import numpy as np

from maxi.method.agreement import near_texts
from maxi.records import Bag, bag_text

TEXTS = ("run", "jump", "be")


def unit(rows: list[list[float]]) -> np.ndarray:
    table = np.array(rows, np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def bags() -> list[Bag]:
    """Two runners and two jumpers, each with all texts."""
    texts = tuple(bag_text(t, "caption:x") for t in TEXTS)
    return [Bag(f"v{i}", "running", texts) for i in range(4)]


BY_ACTION = unit([[1, 0.1], [1, 0.2], [0.1, 1], [0.2, 1]])


def embed(texts):
    """`be` is as near to every video as to any other."""
    table = {"run": [1, 0], "jump": [0, 1], "be": [1, 1]}
    return unit([table[text] for text in texts])


def kept(found: list[Bag]) -> list[set[str]]:
    return [{t.text for t in bag.texts} & {"run", "jump"} for bag in found]


def test_a_text_stays_where_it_is_nearer_than_to_most():
    found = near_texts(bags(), [(BY_ACTION, embed)])
    assert kept(found) == [{"run"}, {"run"}, {"jump"}, {"jump"}]
    assert [bag.video for bag in found] == ["v0", "v1", "v2", "v3"]


def test_both_models_must_agree():
    other = BY_ACTION[[0, 2, 1, 3]]  # takes the second runner for a jumper, and the other way round
    found = near_texts(bags(), [(BY_ACTION, embed), (other, embed)])
    assert kept(found) == [{"run"}, set(), set(), {"jump"}]


def test_far_is_the_share_of_videos_without_a_text():
    rng = np.random.default_rng(0)
    z_v = unit(rng.normal(size=(400, 8)).tolist())
    z_t = unit(rng.normal(size=(1, 8)).tolist())
    many = [Bag(f"v{i}", "running", (bag_text("run", "x"),)) for i in range(400)]
    found = near_texts(many, [(z_v, lambda texts: z_t)], far=0.75)
    assert sum(bool(bag.texts) for bag in found) == 100
    nearest = np.argsort(-(z_v @ z_t[0]))[:100]
    assert {bag.video for bag in found if bag.texts} == {f"v{i}" for i in nearest}


def test_empty_bags_stay_empty():
    empty = [Bag("v0", "running", ())]
    assert near_texts(empty, [(BY_ACTION[:1], embed)]) == empty
