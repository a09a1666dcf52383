"""X-CLIP: frames that pass messages to each other, and names that look at the video (Ni et al., ECCV 2022)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.baselines.baseline import Baseline, Encoder
from maxi.models.blocks import each_row, run

PROMPT_BLOCKS, PROMPT_SHARE = (
    2,
    0.1,
)  # blocks of the video-specific prompt, and how much of it is added at first


class Messages(nn.Module):
    """Messages of one block: made from each frame's class token, exchanged between frames (cross-frame attention)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.make, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.exchange = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)

    def forward(self, tokens: Tensor, n_frames: int) -> Tensor:
        """Return the message of each frame: tokens (B * T, L, W) -> (B * T, 1, W)."""
        made = self.make(tokens[:, 0]).unflatten(0, (-1, n_frames))  # (B, T, W)
        normed = self.norm(made)
        heard: Tensor = made + self.exchange(normed, normed, normed, need_weights=False)[0]
        return heard.flatten(0, 1)[:, None]


class PromptBlock(nn.Module):
    """A block in which the names of a video (B, K, D) attend to what is seen in it (B, P, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.look = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, names: Tensor, seen: Tensor) -> Tensor:
        """Return the names after a look at the video: (B, K, D)."""
        keys = self.norms[1](seen)
        names = names + self.look(self.norms[0](names), keys, keys, need_weights=False)[0]
        changed: Tensor = names + self.mlp(self.norms[2](names))
        return changed


class XCLIP(Baseline):
    """Both encoders learn. What stands for a video are its embedding and, behind it, its patches averaged over time."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        tower = self.towers.model.vision_model
        inner = tower.post_layernorm.weight.shape[0]
        self.messages = nn.ModuleList([Messages(inner) for _ in tower.encoder.layers])
        self.temporal = Encoder(self.width, 1)
        self.prompt = nn.ModuleList([PromptBlock(self.width) for _ in range(PROMPT_BLOCKS)])
        self.share = nn.Parameter(PROMPT_SHARE * torch.ones(self.width))

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Embed videos: (B, T, C, H, W) -> (B, 1 + P, D), the embedding with unit norm and the P patches."""
        tower, n_frames = self.towers.model.vision_model, pixels.shape[1]
        tokens = tower.pre_layrnorm(tower.embeddings(pixels.flatten(0, 1)))
        for block, messages in zip(tower.encoder.layers, self.messages, strict=True):
            with_message = torch.cat([tokens, messages(tokens, n_frames).to(tokens.dtype)], 1)
            tokens = run([block], with_message, each_row)[:, :-1]
        projected = self.towers.image_head(tower.post_layernorm(tokens))
        projected = projected.unflatten(0, (-1, n_frames)).float()  # (B, T, 1 + P, D)
        frames, patches = projected[:, :, 0], projected[:, :, 1:].mean(1)
        video = F.normalize((frames + self.temporal(frames)).mean(1), dim=-1)
        return torch.cat([video[:, None], patches], 1)

    def cosines(self, videos: Tensor, names: Tensor) -> Tensor:
        """Compare videos with names that have looked at them: (B, 1 + P, D), (K, D) -> (B, K)."""
        of_video = names.expand(len(videos), -1, -1)
        for block in self.prompt:
            of_video = block(of_video, videos[:, 1:])
        prompted = F.normalize(names + self.share * of_video, dim=-1)  # (B, K, D)
        return torch.einsum("bd,bkd->bk", videos[:, 0], prompted)
