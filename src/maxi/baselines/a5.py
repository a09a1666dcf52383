"""A5: learnt vectors before and after each name, CLIP itself frozen (Ju et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.baselines.baseline import Baseline
from maxi.models.blocks import causal, run, up_to

MOST_VECTORS = 16  # before a name, and as many after it, as in its paper


class A5(Baseline):
    """Only the prompt learns; frames are averaged, without the paper's temporal transformer, so that this stays "
    "true."""

    trainable = None

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        text = self.towers.model.text_model
        width = text.embeddings.token_embedding.weight.shape[1]
        self.n_vectors = max(1, min(MOST_VECTORS, (self.towers.max_length - 8) // 3))
        self.before = nn.Parameter(0.01 * torch.randn(self.n_vectors, width))
        self.after = nn.Parameter(0.01 * torch.randn(self.n_vectors, width))

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Embed names between the learnt vectors: (K, D), unit norm. A long name is cut to what there is room for."""
        text = self.towers.model.text_model
        rows = [self._row(name) for name in names]
        longest = max(len(row) for row in rows)
        words = torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        words = words + text.embeddings.position_embedding.weight[:longest]
        last = torch.tensor([len(row) - 1 for row in rows], device=words.device)
        index = (torch.arange(len(rows), device=words.device)[:, None], last[:, None])
        ends = run(text.encoder.layers, words, causal, at=index, attend_at=up_to(last))
        raw = self.towers.text_head(text.final_layer_norm(ends[:, 0]))
        return F.normalize(raw.float(), dim=-1)

    def _row(self, name: str) -> Tensor:
        """Return the embedded tokens of start, vectors, name, vectors and end: (L, W)."""
        embedding = self.towers.model.text_model.embeddings.token_embedding
        ids = self.towers.tokenize([name])["input_ids"][0].to(embedding.weight.device)
        room = self.towers.max_length - 2 - 2 * self.n_vectors
        inner = ids[1:-1][:room]
        start, end = embedding(ids[:1]), embedding(ids[-1:])
        return torch.cat([start, self.before, embedding(inner), self.after, end])
