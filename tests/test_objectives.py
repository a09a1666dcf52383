"""Objectives against a plain double loop, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from maxi.method.objectives import OBJECTIVES, contrasted, mil_nce, mil_nce_outside, text_to_video


def case(seed: int = 0, b: int = 5, n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, b, n, generator=rng, dtype=torch.float64) * 5
    mask = torch.rand(b, n, generator=rng) < 0.7
    mask[:, 0] = True
    labels = torch.randint(0, 3, (b,), generator=rng)
    return logits, mask, labels[:, None] == labels[None, :]


def eq2(logits: torch.Tensor, mask: torch.Tensor, positives: torch.Tensor) -> float:
    """Eq. 2 in the paper's own sums."""
    b, j_max, n_max = logits.shape
    total = 0.0
    for i in range(b):
        above = below = 0.0
        for j in range(j_max):
            for n in range(n_max):
                if mask[j, n]:
                    term = math.exp(float(logits[i, j, n]))
                    below += term
                    above += term if positives[i, j] else 0.0
        total += math.log(above / below)
    return -total / b


@pytest.mark.parametrize("seed", range(5))
def test_mil_nce_is_equation_2(seed: int) -> None:
    logits, mask, positives = case(seed)
    assert mil_nce(logits, mask, positives).item() == pytest.approx(
        eq2(logits, mask, positives), rel=1e-12
    )


def test_one_text_per_bag_is_cross_entropy() -> None:
    logits = case(n=1)[0]
    mask, own = torch.ones(5, 1, dtype=torch.bool), torch.eye(5, dtype=torch.bool)
    expected = torch.nn.functional.cross_entropy(logits[:, :, 0], torch.arange(5))
    assert torch.allclose(mil_nce(logits, mask, own), expected)


def log_share(logits, mask, i, j, k_of):
    """log of bag j's share in the softmax of video i over the bags `k_of`."""
    total = sum(
        math.exp(float(logits[i, k, n])) for k in k_of for n in range(mask.shape[1]) if mask[k, n]
    )
    own = sum(math.exp(float(logits[i, j, n])) for n in range(mask.shape[1]) if mask[j, n])
    return math.log(own / total)


def best_texts(logits, mask):
    """The best text of each bag, as a table without padding."""
    b, j_max, n_max = logits.shape
    rows = [
        [max(float(logits[i, j, n]) for n in range(n_max) if mask[j, n]) for j in range(j_max)]
        for i in range(b)
    ]
    return torch.tensor(rows, dtype=torch.float64)[:, :, None], torch.ones(j_max, 1).bool()


def outside(logits, mask, positives):
    pairs = [(i, j) for i in range(len(logits)) for j in range(len(logits)) if positives[i, j]]
    return -sum(log_share(logits, mask, i, j, range(len(logits))) for i, j in pairs) / len(pairs)


def symmetric(logits, mask, positives):
    return outside(logits, mask, positives) + outside(logits.transpose(0, 1), mask, positives.T)


def backwards(logits, mask, positives):
    """Text to video, each unmasked text for itself."""
    total, count = 0.0, 0
    for j in range(logits.shape[1]):
        for n in range(logits.shape[2]):
            if mask[j, n]:
                terms = [math.exp(float(x)) for x in logits[:, j, n]]
                ours = sum(t for t, p in zip(terms, positives[:, j], strict=True) if p)
                total, count = total + math.log(ours / sum(terms)), count + 1
    return -total / count


def own(positives):
    return torch.eye(len(positives), dtype=torch.bool)


REFERENCES = {
    "mil_nce": eq2,
    "mil_nce_instance": lambda x, m, p: eq2(x, m, own(p)),
    "mil_max": lambda x, m, p: eq2(*best_texts(x, m), p),
    "nce": lambda x, m, p: eq2(x, m, own(p)),
    "cross_entropy": eq2,
    "mil_nce_outside": outside,
    "mil_max_symmetric": lambda x, m, p: symmetric(*best_texts(x, m), p),
    "nce_symmetric": symmetric,
}


def case_of(name: str, seed: int = 0, **sizes: int):
    """A case that the objective takes: one text a bag for some, one class a video for cross entropy."""
    if name not in ("nce", "nce_symmetric", "cross_entropy"):
        return case(seed, **sizes)
    logits, _, positives = case(seed, **{**sizes, "n": 1})
    if name == "cross_entropy":
        positives = own(positives)[torch.tensor([0, 2, 2, 1, 4])[: len(positives)]]
    return logits, torch.ones(len(logits), 1, dtype=torch.bool), positives


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_its_double_loop(name: str, seed: int) -> None:
    logits, mask, positives = case_of(name, seed)
    found = OBJECTIVES[name](logits, mask, positives)
    assert found.item() == pytest.approx(REFERENCES[name](logits, mask, positives), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_text_to_video_is_its_double_loop(seed: int) -> None:
    logits, mask, positives = case(seed)
    found = text_to_video(logits, mask, positives).item()
    assert found == pytest.approx(backwards(logits, mask, positives), rel=1e-12)
    both = contrasted(mil_nce, None, True)(logits, mask, positives).item()
    assert both == pytest.approx((found + eq2(logits, mask, positives)) / 2, rel=1e-12)


def test_texts_count_by_their_weight_in_both_directions() -> None:
    """A weight of 2 is as good as the same text twice, and one of next to nothing as good as no text."""
    logits, mask, positives = case(3)
    mask[:, 1] = True
    for last, double in ((1e-12, False), (2.0, True)):
        weights = mask.double()
        weights[:, 0] = last
        twice = torch.cat([logits, logits[:, :, :1]], 2)
        twice_mask = torch.cat([mask, mask[:, :1] & double], 1)
        twice_mask[:, 0] = double
        for both in (False, True):
            found = contrasted(mil_nce, None, both)(logits, weights, positives).item()
            expected = contrasted(mil_nce, None, both)(twice, twice_mask, positives).item()
            assert found == pytest.approx(expected, rel=1e-9)


def test_groups_are_contrasted_among_themselves() -> None:
    logits, mask, positives = case(b=7)
    found = contrasted(mil_nce_outside, 3, False)(logits, mask, positives).item()
    parts = [slice(0, 3), slice(3, 5), slice(5, 7)]
    losses = [outside(logits[g, g], mask[g], positives[g, g]) for g in parts]
    assert found == pytest.approx(sum(losses) / 3, rel=1e-12)


def test_no_group_has_a_single_video() -> None:
    """Its loss would be 0, and the mean too low."""
    logits, mask, positives = case(b=5)
    found = contrasted(mil_nce_outside, 2, False)(logits, mask, positives).item()
    parts = [slice(0, 3), slice(3, 5)]
    losses = [outside(logits[g, g], mask[g], positives[g, g]) for g in parts]
    assert found == pytest.approx(sum(losses) / 2, rel=1e-12)
    for n in range(2, 12):
        sizes: list[int] = []

        def measure(logits, mask, positives, sizes=sizes):
            sizes.append(len(logits))
            return logits.sum()

        contrasted(measure, 3, False)(*case(b=n))
        assert sum(sizes) == n
        assert all(2 <= size <= 3 for size in sizes)


def test_what_an_objective_cannot_read_is_told() -> None:
    logits, mask, positives = case()
    for name in ("nce", "nce_symmetric", "cross_entropy"):
        with pytest.raises(ValueError, match=r"one (text|prompt) of each"):
            OBJECTIVES[name](logits, mask, positives)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_in_a_bag_and_masked_texts_change_nothing(name: str) -> None:
    objective = OBJECTIVES[name]
    logits, mask, positives = case_of(name)
    order = torch.tensor([2, 0, 3, 1])[: mask.shape[1]] % mask.shape[1]
    before = objective(logits, mask, positives)
    assert torch.allclose(objective(logits[:, :, order], mask[:, order], positives), before)
    changed = torch.where(mask[None], logits, torch.full_like(logits, 1e4))
    assert torch.equal(objective(changed, mask, positives), before)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_large_logits_stay_finite_with_their_gradient(name: str) -> None:
    logits, mask, positives = case_of(name)
    logits = (logits.float() * 1e4).requires_grad_()
    loss = OBJECTIVES[name](logits, mask, positives)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_logits_are_summed_in_float32(name: str) -> None:
    logits, mask, positives = case_of(name)
    assert OBJECTIVES[name](logits.bfloat16(), mask, positives).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradient(name: str) -> None:
    logits, mask, positives = case_of(name, b=3, n=2)
    assert torch.autograd.gradcheck(
        lambda x: OBJECTIVES[name](x, mask, positives), (logits.requires_grad_(),)
    )


def test_more_positives_lower_the_loss() -> None:
    logits, mask, _ = case()
    own, all_ = torch.eye(5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool)
    assert mil_nce(logits, mask, all_).item() == pytest.approx(0.0, abs=1e-12)
    assert mil_nce(logits, mask, own) > 0


def test_instance_only_positives_are_the_own_bags() -> None:
    logits, mask, positives = case()
    assert OBJECTIVES["mil_nce_instance"](logits, mask, positives).item() == pytest.approx(
        eq2(logits, mask, own(positives))
    )
    assert OBJECTIVES["mil_nce_instance"](logits, mask, positives) > mil_nce(
        logits, mask, positives
    )


def test_graded_positives_weigh_their_bags_in_the_sum() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 2, generator=rng, dtype=torch.float64)
    grades = torch.tensor([[1.0, 0.5, 0], [0.25, 1.0, 0], [0, 0, 1.0]], dtype=torch.float64)
    mask = torch.ones(3, 2, dtype=torch.bool)
    expected = 0.0
    for i in range(3):
        every = sum(math.exp(x) for x in logits[i].flatten())
        ours = sum(grades[i, j] * math.exp(x) for j in range(3) for x in logits[i, j])
        expected -= math.log(ours / every) / 3
    logits.requires_grad_()
    loss = mil_nce(logits, mask, grades)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
