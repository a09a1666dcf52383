"""Batches: who meets whom, which texts, which mask, and prefetching."""

from __future__ import annotations

import itertools

import pytest
import torch

from maxi.config import TrainConfig
from maxi.loader import collate_texts, n_batches, prefetch, schedule
from maxi.records import Bag, BagText


def make_bags(n: int) -> list[Bag]:
    return [
        Bag(
            f"v{i:03}",
            f"name {i % 3}",
            tuple(BagText(f"text {i % 5} {j}", "hand") for j in range(i % 7)),
        )
        for i in range(n)
    ]


CONFIG = TrainConfig(batch_size=8, epochs=3, n_bag=4)


def test_every_epoch_has_every_video_once_in_even_batches() -> None:
    steps = list(schedule(make_bags(21), CONFIG, seed=0))
    assert [s.number for s in steps] == list(range(9))
    for epoch in range(3):
        batches = [s.bags for s in steps if s.epoch == epoch]
        assert sorted(map(len, batches)) == [7, 7, 7]
        assert len({b.video for b in itertools.chain(*batches)}) == 21
    assert [b.video for b in steps[0].bags] != [b.video for b in steps[3].bags]


@pytest.mark.parametrize(
    ("n", "size", "batches"), [(3, 256, 1), (256, 256, 1), (300, 256, 1), (400, 256, 2), (9, 4, 2)]
)
def test_no_batch_is_a_small_rest(n: int, size: int, batches: int) -> None:
    assert n_batches(n, size) == batches


def test_the_schedule_ignores_the_order_of_its_bags_and_resumes_anywhere() -> None:
    bags = make_bags(21)
    steps = list(schedule(bags, CONFIG, seed=0))
    assert list(schedule(bags[::-1], CONFIG, seed=0)) == steps
    for start in (0, 1, 3, 8):
        assert list(schedule(bags, CONFIG, seed=0, start=start)) == steps[start:]


def test_texts_of_a_step() -> None:
    step = next(schedule(make_bags(21), CONFIG, seed=0))
    texts, index, mask, positives = collate_texts(step, CONFIG, seed=0)
    assert len(set(texts)) == len(texts)
    assert index.shape == mask.shape == (7, int(mask.sum(1).max()))
    for i, bag in enumerate(step.bags):
        prompts = [texts[j] for j in index[i][mask[i]]]
        assert len(prompts) == max(1, min(4, len(bag.texts)))
        if bag.texts:
            assert all(p.startswith(f"a photo of {bag.label}. ") for p in prompts)
        else:
            assert prompts == [f"a photo of {bag.label}."]
        assert positives[i].tolist() == [other.label == bag.label for other in step.bags]
    assert positives.dtype == mask.dtype == torch.bool


def test_prefetch_passes_items_and_errors_on() -> None:
    assert list(prefetch(iter(range(50)), ahead=3)) == list(range(50))

    def broken():
        yield 1
        raise ValueError("no")

    stream = prefetch(broken())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no"):
        next(stream)


def test_prefetch_stays_a_little_ahead() -> None:
    made: list[int] = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    stream = prefetch(items(), ahead=2)
    next(stream)
    import time

    time.sleep(0.2)
    assert len(made) <= 5
    stream.close()
