"""Losses over (video, bag) logits: pure functions of tensors.

Every objective has the signature `(logits (B, J, N), mask (J, N), positives (B, J)) -> scalar`: `logits[i, j, n]` is
video i against text n of bag j, already divided by sigma; `mask` is False on padding; `positives[i, j]` says that bag
j belongs to video i. In a batch of its own bags J = B; a fixed class space is the same shape with J = K, N = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mil_nce(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2, with the positives pooled inside the logarithm.

    L = -1/B sum_i log( sum_{j: t_i = t_j} sum_n exp(logits_ijn) / sum_k sum_n exp(logits_ikn) ), computed in float32
    (or float64) by log-sum-exp. Every video needs one unmasked positive text.
    """
    logits = logits.double() if logits.dtype == torch.float64 else logits.float()
    every = _log_sum_exp(logits, mask[None])  # (B, J, N) -> (B,)
    ours = _log_sum_exp(logits, mask[None] & positives[:, :, None])  # (B, J, N) -> (B,)
    return (every - ours).mean()


def mil_nce_instance(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2 with each video's own bag as its only positive (Table 7): bag i is video i's, so J = B."""
    own = torch.eye(len(logits), dtype=torch.bool, device=positives.device)
    return mil_nce(logits, mask, positives & own)


def _log_sum_exp(logits: Tensor, keep: Tensor) -> Tensor:
    # The lowest finite number instead of -inf: exp() of it is 0 all the same, and no gradient becomes NaN.
    return logits.masked_fill(~keep, torch.finfo(logits.dtype).min).flatten(1).logsumexp(1)


OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mil_nce": mil_nce,
    "mil_nce_instance": mil_nce_instance,
}
