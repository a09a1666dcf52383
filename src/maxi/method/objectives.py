"""Losses over (video, bag) logits: pure functions of tensors.

Every objective has the signature `(logits (B, J, N), mask (J, N), positives (B, J)) -> scalar`. `logits[i, j, n]` is
the cosine of video i and text n of bag j, already divided by sigma. `mask` is False on padding. `positives[i, j]` says
that bag j is positive for video i. A batch is contrasted with its own bags, J = B, or with K fixed classes of one text
each, J = K and N = 1.
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
    (or float64) by log-sum-exp. Every video needs at least one unmasked positive text. `positives` may be graded:
    numbers from 0 to 1 that weigh the bags in the upper sum.
    """
    return _losses_of_videos(logits, mask, positives).mean()


def mil_nce_instance(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2 with each video's own bag as its only positive (Table 7): bag i belongs to video i, so J = B."""
    own = torch.eye(len(logits), dtype=torch.bool, device=positives.device)
    return mil_nce(logits, mask, positives & own)


def mil_max(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Eq. 2 with the text of highest logit in each bag in place of the sum over its texts (Table 7, MIL-Max)."""
    best = _masked(logits, mask[None]).amax(2, keepdim=True)  # (B, J, N) -> (B, J, 1)
    return mil_nce(best, mask.any(1, keepdim=True), positives)


def nce(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Plain NCE: each video is contrasted with one text of each bag, and its own bag is the only positive (Table 7).

    Raises ValueError unless N = 1.
    """
    if logits.shape[2] != 1:
        raise ValueError("nce contrasts one text of each bag")
    return mil_nce_instance(logits, mask, positives)


def cross_entropy(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Classification over fixed class prompts (Table 7): J = K classes, of which the matched one is positive.

    Raises ValueError unless N = 1 and each video has exactly one positive class.
    """
    if logits.shape[2] != 1 or not bool((positives.sum(1) == 1).all()):
        raise ValueError("cross entropy needs one prompt of each class and one class of each video")
    return mil_nce(logits, mask, positives)


# The next three are the forms of the released code, which differ from the paper's text.


def mil_nce_outside(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """MIL-NCE with the mean over positive pairs outside the logarithm: -1/|P| sum_{(i, j) in P} log q_ij.

    q_ij is the share of bag j in the softmax of video i over all texts.
    """
    log_sums = _log_sums_of_bags(logits, mask)  # (B, J)
    return (log_sums.logsumexp(1, keepdim=True) - log_sums)[positives].mean()


def mil_max_symmetric(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """`nce_symmetric` with the text of highest logit in each bag."""
    best = _masked(_full_precision(logits), mask[None]).amax(2, keepdim=True)
    return nce_symmetric(best, mask.any(1, keepdim=True), positives)


def nce_symmetric(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """NCE in both directions, with all bags of the same match as positives and their mean outside the logarithm.

    The losses from video to text and from text to video are added. Raises ValueError unless N = 1.
    """
    if logits.shape[2] != 1:
        raise ValueError("nce_symmetric contrasts one text of each bag")
    pairs = _full_precision(logits)[:, :, 0]  # (B, B, 1) -> (B, B)
    to_text, to_video = pairs.log_softmax(1), pairs.log_softmax(0)
    return -(to_text[positives].mean() + to_video[positives].mean())


def text_to_video(logits: Tensor, weights: Tensor, positives: Tensor) -> Tensor:
    """The other direction of Eq. 2: each text of the batch is contrasted with all videos.

    The videos for which the text's bag is positive are its positives. The loss is the mean over the texts by their
    `weights` (J, N), which are 0 on padding.
    """
    mask = weights > 0
    text_logits = logits.permute(1, 2, 0)[mask]  # (B, J, N) -> (U, B), U the unmasked texts
    text_positives = positives.T[:, None].expand(-1, mask.shape[1], -1)[mask]  # (B, J) -> (U, B)
    video_mask = torch.ones(len(logits), 1, dtype=torch.bool, device=mask.device)
    losses = _losses_of_videos(text_logits[:, :, None], video_mask, text_positives)  # (U,)
    shares = weights[mask].to(losses.dtype)
    return (losses * shares).sum() / shares.sum()


def contrasted(objective: Objective, size: int | None, both: bool) -> Objective:
    """Return the objective averaged over groups of about `size` videos, each contrasted with its own bags alone.

    In place of a mask it takes the weights (J, N) of the texts, which are 0 on padding.

    The released code contrasts the 16 videos of a micro-batch among themselves and accumulates the gradients. Groups
    are neighbours in the batch and nearly equal in size. None has a single video, which nothing would be told apart
    from: with `size` 2, one group of an odd batch has three. Without `size` the whole batch is one group. With `both`
    the loss is the mean of the objective and of `text_to_video`.
    """

    def directed(logits: Tensor, weights: Tensor, positives: Tensor) -> Tensor:
        # w exp(x) = exp(x + log w): each text has its weight w in every sum of Eq. 2.
        loss = objective(logits + weights.log(), weights > 0, positives)
        return (loss + text_to_video(logits, weights, positives)) / 2 if both else loss

    def grouped(logits: Tensor, weights: Tensor, positives: Tensor) -> Tensor:
        n_groups = max(1, min(math.ceil(len(logits) / (size or len(logits))), len(logits) // 2))
        groups = torch.arange(len(logits)).tensor_split(n_groups)
        losses = [directed(logits[g][:, g], weights[g], positives[g][:, g]) for g in groups]
        return torch.stack(losses).mean()

    return grouped if size else directed


def _masked(logits: Tensor, keep: Tensor) -> Tensor:
    # The lowest finite number instead of -inf: its exp() is 0 as well, and no gradient becomes NaN.
    return logits.masked_fill(~keep, torch.finfo(logits.dtype).min)


def _losses_of_videos(logits: Tensor, mask: Tensor, positives: Tensor) -> Tensor:
    """Return the terms of Eq. 2, one for each video: (B, J, N), (J, N), (B, J) -> (B,)."""
    log_sums = _log_sums_of_bags(logits, mask)  # (B, J)
    weighted = _masked(log_sums + positives.to(log_sums.dtype).log(), positives > 0)
    return log_sums.logsumexp(1) - weighted.logsumexp(1)


def _log_sums_of_bags(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the logarithm of the sum over each bag's texts: (B, J, N) -> (B, J). Both sums of Eq. 2 follow from it."""
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
