"""Run the transformer blocks of CLIP and SigLIP over frames and texts, and compute only the tokens that are needed.

The input of a block is a row of tokens for each frame, or the tokens of all texts end to end. An `Attend` function
says how tokens attend to each other; everything else in a block is done token by token.
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

# Up to so many tokens, plain products on a CPU are up to twice as fast as the fused kernel.
FEW = 64

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""A function of queries, keys, values and the number of heads; it returns the attended values, one for each query."""


def run(
    blocks: Iterable[Any],
    tokens: Tensor,
    attend: Attend,
    *,
    at: Any = None,
    attend_at: Attend | None = None,
    recompute: bool = False,
) -> Tensor:
    """Run tokens (..., W) through all blocks; with `at`, the last block computes only the tokens at this index.

    `attend_at` says how these tokens attend. With `recompute` only the input of each block is kept for the backward
    pass (gradient checkpointing): the result is the same, with less memory and a second forward pass.
    """
    steps = [partial(_block, block, attend=attend, at=None) for block in blocks]
    if at is not None:
        steps[-1] = partial(steps[-1], attend=attend_at or attend, at=at)
    for step in steps:
        if recompute and torch.is_grad_enabled():
            tokens = checkpoint(step, tokens, use_reentrant=False)
        else:
            tokens = step(tokens)
    return tokens


def _block(block: Any, tokens: Tensor, *, attend: Attend, at: Any) -> Tensor:
    """Run one block; with `at`, all tokens are keys and values, but only those at this index are computed."""
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    keys, values = attention.k_proj(normed), attention.v_proj(normed)
    if at is not None:
        tokens, normed = tokens[at], normed[at]
    attended = attend(attention.q_proj(normed), keys, values, attention.num_heads)
    tokens = tokens + attention.out_proj(attended)
    output: Tensor = tokens + block.mlp(block.layer_norm2(tokens))
    return output


def each_row(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
    """Let every token attend to all tokens of its row: (B, Q, W), (B, L, W), (B, L, W) -> (B, Q, W)."""
    return _attention(queries, keys, values, n_heads)


def causal(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
    """Let every token attend to itself and those before it in its row: three times (B, L, W) -> (B, L, W)."""
    return _attention(queries, keys, values, n_heads, is_causal=True)


def up_to(at: Tensor) -> Attend:
    """Let one token of each row, at position `at` (B,), attend to itself and those before it.

    (B, 1, W), (B, L, W), (B, L, W) -> (B, 1, W).
    """

    def attend(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        seen = torch.arange(keys.shape[1], device=at.device) <= at[:, None]
        return _attention(queries, keys, values, n_heads, mask=seen[:, None, None])

    return attend


def across_frames(n_frames: int, attend: Attend = each_row) -> Attend:
    """Let the frames of a video attend to their neighbours in time, without new parameters (Eq. 3).

    Rows are frames, and the `n_frames` of a video are next to each other. Eq. 3 averages the scores of the queries of
    frame t with the keys of frames t - 1, t and t + 1. A score is linear in its key, so this equals attention with the
    mean of these keys, over the frames that exist.
    """

    def temporal(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        return attend(queries, _averaged_keys(keys, n_frames), values, n_heads)

    return temporal


def _averaged_keys(keys: Tensor, n_frames: int) -> Tensor:
    """Return the mean of each frame's keys and those of its neighbours: (B * T, L, W) -> (B * T, L, W)."""
    frames = keys.unflatten(0, (-1, n_frames))  # (B * T, L, W) -> (B, T, L, W)
    before = F.pad(frames[:, :-1], (0, 0, 0, 0, 1, 0))
    after = F.pad(frames[:, 1:], (0, 0, 0, 0, 0, 1))
    t = torch.arange(n_frames, device=keys.device)
    counts = 1 + (t > 0).to(keys.dtype) + (t < n_frames - 1).to(keys.dtype)
    mean: Tensor = (before + frames + after) / counts[:, None, None]
    return mean.flatten(0, 1)


@dataclass(frozen=True)
class Packed:
    """Texts end to end without padding, ordered by length, so that texts of the same length are next to each other.

    `ids` and `positions` (P,) are those of all tokens. `ends` (N,) says where each text ends, and `order` (N,) which of
    the given texts it is. `groups` holds, for each length, the number of texts and the length.
    """

    ids: Tensor
    positions: Tensor
    ends: Tensor
    order: Tensor
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor) -> Packed:
        """Pack padded ids (N, L) of texts of these lengths (N,)."""
        order = lengths.argsort(stable=True)
        lengths = lengths[order]
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        is_text = positions < lengths[:, None]
        distinct, counts = lengths.unique_consecutive(return_counts=True)
        groups = tuple(zip(counts.tolist(), distinct.tolist(), strict=True))
        return cls(ids[order][is_text], positions[is_text], lengths.cumsum(0) - 1, order, groups)

    def causal(self, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        """Let every token attend to itself and those before it in its text: three times (P, W) -> (P, W)."""
        return self._grouped(causal, queries, keys, values, n_heads)

    def at_ends(self, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int) -> Tensor:
        """Let the last token of every text attend to the whole text: (N, W), (P, W), (P, W) -> (N, W)."""
        return self._grouped(each_row, queries, keys, values, n_heads)

    def _grouped(
        self, attend: Attend, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int
    ) -> Tensor:
        """Attend within each group of texts of one length, which have the shape (texts, tokens, W)."""
        key_sizes = [n * length for n, length in self.groups]
        query_sizes = key_sizes if len(queries) == len(keys) else [n for n, _ in self.groups]
        split = queries.split(query_sizes), keys.split(key_sizes), values.split(key_sizes)
        attended = []
        for (n, _), *group in zip(self.groups, *split, strict=True):
            q, k, v = (part.unflatten(0, (n, -1)) for part in group)
            attended.append(attend(q, k, v, n_heads).flatten(0, 1))
        return torch.cat(attended)


def _attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    n_heads: int,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Attend with several heads: (B, Q, W), (B, L, W), (B, L, W) -> (B, Q, W); `mask` is True where a key is seen."""
    # (B, L, W) -> (B, H, L, W / H)
    q, k, v = (t.unflatten(-1, (n_heads, -1)).transpose(1, 2) for t in (queries, keys, values))
    exporting = torch.compiler.is_exporting()  # an exported graph cannot branch on a length
    if q.device.type != "cpu" or exporting or k.shape[2] > FEW:
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
    else:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if is_causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        attended = scores.softmax(-1).to(v.dtype) @ v
    return attended.transpose(1, 2).flatten(2)
