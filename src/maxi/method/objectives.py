"""Losses over (video, bag) logits: pure functions of tensors.

Every objective has the signature `(logits (B, J, N), mask (J, N), positives (B, J)) -> scalar`: `logits[i, j, n]` is
video i against text n of bag j, already divided by sigma; `mask` is False on padding; `positives[i, j]` says that bag
j belongs to video i. In a batch of its own bags J = B; a fixed class space is the same shape with J = K, N = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def mil_nce(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2, with the positives pooled inside the logarithm.

    L = -1/B sum_i log( sum_{j: t_i = t_j} sum_n exp(logits_ijn) / sum_k sum_n exp(logits_ikn) ), computed in float32
    (or float64) by log-sum-exp. Every video needs one unmasked positive text. Positives may be graded, 0 to 1.
    """
    bags = _sums_of_bags(logits, mask)  # (B, J)
    # A grade in ]0, 1] weighs the bag in the sum of the positives; that of a boolean is 0 or 1.
    ours = _masked(bags + positives.to(bags.dtype).log(), positives > 0)
    return (bags.logsumexp(1) - ours.logsumexp(1)).mean()


def mil_nce_instance(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2 with each video's own bag as its only positive (Table 7): bag i is video i's, so J = B."""
    own = torch.eye(len(logits), dtype=torch.bool, device=positives.device)
    return mil_nce(logits, mask, positives & own)


def mil_max(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2 with the best text of each bag in place of the sum over its texts (Table 7, MIL-Max)."""
    best = _masked(logits, mask[None]).amax(2, keepdim=True)  # (B, J, N) -> (B, J, 1)
    return mil_nce(best, mask.any(1, keepdim=True), positives)


def nce(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Plain NCE: video i against one text of each bag, its own bag the only positive (Table 7); N = 1."""
    if logits.shape[2] != 1:
        raise ValueError("nce contrasts one text of each bag")
    return mil_nce_instance(logits, mask, positives)


def cross_entropy(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Classification over fixed class prompts (Table 7): J = K classes, N = 1, the matched one positive."""
    if logits.shape[2] != 1 or not bool((positives.sum(1) == 1).all()):
        raise ValueError("cross entropy needs one prompt of each class and one class of each video")
    return mil_nce(logits, mask, positives)


# The released code's forms, which differ from the paper's text.


def mil_nce_outside(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """MIL-NCE with the mean over positive pairs outside the logarithm: -1/|P| sum_{(i, j) in P} log q_ij.

    q_ij is the share of bag j in the softmax of video i over all texts.
    """
    bags = _sums_of_bags(logits, mask)
    return (bags.logsumexp(1, keepdim=True) - bags)[positives].mean()


def mil_max_symmetric(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """MIL-Max on the best text of each bag, as `nce_symmetric`."""
    best = _masked(_full_precision(logits), mask[None]).amax(2, keepdim=True)
    return nce_symmetric(best, mask.any(1, keepdim=True), positives)


def nce_symmetric(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """NCE on (B, B, 1) with all bags of the same match positive, the mean over them outside the logarithm.

    Video to text and text to video are summed.
    """
    if logits.shape[2] != 1:
        raise ValueError("nce_symmetric contrasts one text of each bag")
    pairs = _full_precision(logits)[:, :, 0]  # (B, B, 1) -> (B, B)
    to_text, to_video = pairs.log_softmax(1), pairs.log_softmax(0)
    return -(to_text[positives].mean() + to_video[positives].mean())


def text_to_video(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """The other direction of Eq. 2: every text of the batch against all videos, those of its name positive."""
    rows = logits.permute(1, 2, 0)[mask]  # (B, J, N) -> (U, B), U the unmasked texts
    ours = positives.T[:, None].expand(-1, mask.shape[1], -1)[mask]  # (B, J) -> (U, B)
    videos = torch.ones(rows.shape[1], 1, dtype=torch.bool, device=mask.device)
    return mil_nce(rows[:, :, None], videos, ours)


def contrasted(objective: Objective, size: int | None, both: bool) -> Objective:
    """An objective over groups of `size` videos and their bags, averaged; with `both`, both directions averaged.

    The released code contrasts the 16 videos of a micro-batch among themselves and accumulates; groups are those
    next to each other in the batch, as nearly equal as they can be. All at once where `size` is unset.
    """

    def directed(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
        loss = objective(logits, mask, positives)
        return (loss + text_to_video(logits, mask, positives)) / 2 if both else loss

    def grouped(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
        n_groups = math.ceil(len(logits) / (size or len(logits)))
        groups = torch.arange(len(logits)).tensor_split(n_groups)
        losses = [directed(logits[g][:, g], mask[g], positives[g][:, g]) for g in groups]
        return torch.stack(losses).mean()

    return grouped if size else directed


def _masked(logits: Tensor, keep: Tensor) -> Tensor:
    # The lowest finite number instead of -inf: exp() of it is 0 all the same, and no gradient becomes NaN.
    return logits.masked_fill(~keep, torch.finfo(logits.dtype).min)


def _sums_of_bags(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, J, N) -> (B, J): the one pass over all logits, from which both sums of Eq. 2 follow."""
    return _masked(_full_precision(logits), mask[None]).logsumexp(2)


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


OBJECTIVES: dict[str, Objective] = {
    "mil_nce": mil_nce,
    "mil_nce_instance": mil_nce_instance,
    "mil_max": mil_max,
    "nce": nce,
    "cross_entropy": cross_entropy,
    "mil_nce_outside": mil_nce_outside,
    "mil_max_symmetric": mil_max_symmetric,
    "nce_symmetric": nce_symmetric,
}
SINGLE = ("nce", "nce_symmetric")
"""Objectives that see one text of each bag, drawn anew in every epoch."""
