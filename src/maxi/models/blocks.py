"""The transformer blocks of CLIP and SigLIP, run over frames and texts without a token that the result does not need.

A block's input is a row of tokens for each frame, or all texts end to end. How tokens attend to each other is told by
a layout; everything else in a block is done token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

FEW = 64  # tokens up to which plain products beat the fused kernel on a CPU, by as much as two

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Queries, keys, values and the number of heads -> what the queries gather, of the queries' shape."""


def run(
    blocks: Iterable[Any],
    tokens: Tensor,
    attend: Attend,
    *,
    at: Any = None,
    attend_at: Attend | None = None,
    recompute: bool = False,
) -> Tensor:
    """Tokens (..., W) through all blocks; with `at`, the last block computes only the tokens at this index.

    `attend_at` is how these attend. With `recompute` a block keeps its input alone for the way back (gradient
    checkpointing): the same numbers for less memory and a second forward pass.
    """
    blocks = list(blocks)
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1 and at is not None
        step = partial(
            _block, block, attend=(attend_at or attend) if last else attend, at=at if last else None
        )
        if recompute and torch.is_grad_enabled():
            tokens = checkpoint(step, tokens, use_reentrant=False)
        else:
            tokens = step(tokens)
    return tokens


def _block(block: Any, tokens: Tensor, *, attend: Attend, at: Any) -> Tensor:
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    keys, values = attention.k_proj(normed), attention.v_proj(normed)
    if at is not None:
        tokens, normed = tokens[at], normed[at]
    mixed = attend(attention.q_proj(normed), keys, values, attention.num_heads)
    tokens = tokens + attention.out_proj(mixed)
    out: Tensor = tokens + block.mlp(block.layer_norm2(tokens))
    return out


def each_row(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
    """Every token of a row attends to all of it: (B, Q, W), (B, L, W), (B, L, W) -> (B, Q, W)."""
    return _attention(queries, keys, values, n_heads)


def causal(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
    """Every token of a row attends to itself and those before it: (B, L, W) three times -> (B, L, W)."""
    return _attention(queries, keys, values, n_heads, is_causal=True)


def up_to(at: Tensor) -> Attend:
    """One token a row, at place `at` (B,), attends to itself and those before it: (B, 1, W), (B, L, W) -> (B, 1, W)."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        seen = torch.arange(keys.shape[1], device=at.device) <= at[:, None]
        return _attention(queries, keys, values, n_heads, mask=seen[:, None, None])

    return attend


def across_frames(n_frames: int, attend: Attend = each_row) -> Attend:
    """Temporal attention without parameters (Eq. 3): rows are frames, `n_frames` next to each other of a video.

    Eq. 3 averages the scores of frame t's queries with the keys of frames t - 1, t and t + 1; since a score is linear
    in its key, that is attention with the keys averaged over those of the three that exist.
    """

    def temporal(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        return attend(queries, _with_neighbours(keys, n_frames), values, n_heads)

    return temporal


def _with_neighbours(keys: Tensor, n_frames: int) -> Tensor:
    rows = keys.unflatten(0, (-1, n_frames))  # (B * T, L, W) -> (B, T, L, W)
    before = F.pad(rows[:, :-1], (0, 0, 0, 0, 1, 0))
    after = F.pad(rows[:, 1:], (0, 0, 0, 0, 0, 1))
    t = torch.arange(n_frames, device=keys.device)
    n = 1 + (t > 0).to(keys.dtype) + (t < n_frames - 1).to(keys.dtype)
    mean: Tensor = (before + rows + after) / n[:, None, None]
    return mean.flatten(0, 1)


@dataclass(frozen=True)
class Packed:
    """Texts end to end without padding, the short ones first, so that those of one length lie next to each other.

    `ids` and `positions` (P,) are those of all tokens, `ends` (N,) where each text ends, `order` (N,) which text that
    is, and `groups` how many texts there are of each length.
    """

    ids: Tensor
    positions: Tensor
    ends: Tensor
    order: Tensor
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor) -> Packed:
        """Of padded ids (N, L) and the texts' lengths (N,)."""
        order = lengths.argsort(stable=True)
        lengths = lengths[order]
        places = torch.arange(ids.shape[1]).expand(len(ids), -1)
        real = places < lengths[:, None]
        found, counts = lengths.unique_consecutive(return_counts=True)
        groups = tuple(zip(counts.tolist(), found.tolist(), strict=True))
        return cls(ids[order][real], places[real], lengths.cumsum(0) - 1, order, groups)

    def causal(self, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        """Every token attends to itself and those of its text before it: (P, W) three times -> (P, W)."""
        return self._grouped(causal, queries, keys, values, n_heads)

    def at_ends(self, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        """The end of every text attends to the whole text: (N, W), (P, W), (P, W) -> (N, W)."""
        return self._grouped(each_row, queries, keys, values, n_heads)

    def _grouped(
        self, attend: Attend, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int
    ) -> Tensor:
        sizes = [n * length for n, length in self.groups]
        asked = sizes if len(queries) == len(keys) else [n for n, _ in self.groups]
        parts = zip(
            self.groups, queries.split(asked), keys.split(sizes), values.split(sizes), strict=True
        )
        mixed = []
        for (n, _), *group in parts:
            q, k, v = (x.unflatten(0, (n, -1)) for x in group)
            mixed.append(attend(q, k, v, n_heads).flatten(0, 1))
        return torch.cat(mixed)


def _attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    n_heads: int,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    q, k, v = (x.unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    exporting = torch.compiler.is_exporting()  # then no branch may depend on a length
    if q.device.type != "cpu" or exporting or k.shape[2] > FEW:  # (B, H, L, W / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
    else:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if is_causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        mixed = scores.softmax(-1).to(v.dtype) @ v
    return mixed.transpose(1, 2).flatten(2)
