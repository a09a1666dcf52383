"""The training step of the paper's released code in its literal form, with which the benchmarks compare ours.

It is written from a description, in the terms of docs/why/method.md. Every prompt of every bag is tokenised in every
step, padded to 77 tokens and encoded, equal prompts as often as they occur. All tokens go through the last block, and
attention is product, softmax, product. There is one graph over everything. The mask of positives is made by nested
loops over scalars, the softmax is summed bag by bag, and the optimiser is AdamW. The frames, the batch and the trained
parameters are given, so that they can be the same as ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maxi.config import TrainConfig
from maxi.models.hugging_face import quiet_transformers

LENGTH = 77


class Released:
    """The model of a CLIP folder under the released step; `frames` are float32 (B, T, C, S, S), `prompts` B lists."""

    def __init__(self, folder: Path, config: TrainConfig, attention: str = "eager") -> None:
        from transformers import CLIPModel, CLIPTokenizerFast

        with quiet_transformers():
            self.model: Any = CLIPModel.from_pretrained(folder, attn_implementation=attention)
        self.tokenizer: Any = CLIPTokenizerFast.from_pretrained(folder)
        self.model.logit_scale.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.scale = 1 / config.sigma
        self.optimiser = torch.optim.AdamW(
            self.parameters, config.lr, config.betas, config.eps, config.weight_decay
        )

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Tokenise N prompts in one call each: (N, 77)."""
        padding = {"padding": "max_length", "max_length": LENGTH, "return_tensors": "pt"}
        return torch.cat([self.tokenizer(prompt, **padding)["input_ids"] for prompt in prompts])

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode N prompts: (N, D), unit norm."""
        pooled = self.model.text_model(input_ids=self.tokenize(prompts)).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)

    def encode_video(self, frames: Tensor) -> Tensor:
        """Encode videos: (B, T, C, S, S) -> (B, D), the mean over T and then unit norm."""
        pooled = self.model.vision_model(pixel_values=frames.flatten(0, 1)).pooler_output
        raw = self.model.visual_projection(pooled).unflatten(0, frames.shape[:2])
        return F.normalize(raw.mean(1), dim=-1)

    def step(self, frames: Tensor, prompts: Sequence[Sequence[str]], labels: Tensor) -> float:
        """Make one step of the optimiser and return the loss."""
        z_v = self.encode_video(frames)
        z_t = self.encode_text([prompt for bag in prompts for prompt in bag])
        loss = mil_nce(self.scale * z_v @ z_t.T, positives(labels))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


def positives(labels: Tensor) -> Tensor:
    """Return which videos share a label, one pair of scalars at a time: (B,) -> bool (B, B)."""
    mask = torch.zeros(len(labels), len(labels), dtype=torch.bool)
    for i in range(len(labels)):
        for j in range(len(labels)):
            if labels[i] == labels[j]:
                mask[i, j] = True
    return mask


def mil_nce(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of logits (B, B * N), bag by bag along the texts, its mean over positives outside the log."""
    n_bag = logits.shape[1] // len(logits)
    softmax = logits.float().softmax(1)
    of_bags = torch.zeros(len(logits), len(logits))
    for j in range(len(logits)):
        of_bags[:, j] = softmax[:, j * n_bag : (j + 1) * n_bag].sum(1)
    return -of_bags.log()[mask].mean()
