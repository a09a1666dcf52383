"""Objectives against a plain double loop, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from maxi.objectives import OBJECTIVES, mil_nce


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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_in_a_bag_and_masked_texts_change_nothing(name: str) -> None:
    objective = OBJECTIVES[name]
    logits, mask, positives = case()
    order = torch.tensor([2, 0, 3, 1])
    before = objective(logits, mask, positives)
    assert torch.allclose(objective(logits[:, :, order], mask[:, order], positives), before)
    changed = torch.where(mask[None], logits, torch.full_like(logits, 1e4))
    assert torch.equal(objective(changed, mask, positives), before)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_large_logits_stay_finite_with_their_gradient(name: str) -> None:
    logits, mask, positives = case()
    logits = (logits.float() * 1e4).requires_grad_()
    loss = OBJECTIVES[name](logits, mask, positives)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_logits_are_summed_in_float32(name: str) -> None:
    logits, mask, positives = case()
    assert OBJECTIVES[name](logits.bfloat16(), mask, positives).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradient(name: str) -> None:
    logits, mask, positives = case(b=3, n=2)
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
    own = torch.eye(5, dtype=torch.bool)
    assert OBJECTIVES["mil_nce_instance"](logits, mask, positives).item() == pytest.approx(
        eq2(logits, mask, own)
    )
    assert OBJECTIVES["mil_nce_instance"](logits, mask, positives) > mil_nce(
        logits, mask, positives
    )
