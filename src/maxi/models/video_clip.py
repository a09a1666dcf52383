"""VideoCLIP: frames to video embeddings, texts to text embeddings, with any backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.files import read_json, write_json
from maxi.models.backbone import Backbone, Normalisation
from maxi.models.load import load_backbone, saved_beside
from maxi.models.saving import SETTINGS
from maxi.settings import load_config

Trainable = Literal["all", "head", "visual", "text"]


class VideoCLIP(nn.Module):
    """A backbone applied to videos (paper, Sec. 3.1); no parameter is added but the temperature.

    `logit_scale` is log(1/sigma) and stays fixed, whatever `freeze` lets learn (Sec. 4.2: 0.02).
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, *, sigma: float = 0.02) -> None:
        super().__init__()
        self.backbone = backbone
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / sigma)), requires_grad=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.logit_scale.device

    def forward(self, frames: Tensor, tokens: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, N) of B videos against N texts: cosines over sigma (the terms of Eq. 2).

        `frames` (B, T, C, H, W) are float32, normalised as the backbone has it; `tokens` (N, L) are what its
        `tokenize` returns.
        """
        cosines = self.encode_video(frames) @ self.encode_text(tokens).T  # (B, D) x (D, N)
        return cosines * self.logit_scale.exp()

    def encode_video(self, frames: Tensor, kept: Tensor | None = None) -> Tensor:
        """Frames (B, T, C, H, W) -> z_v (B, D): mean over T of raw embeddings, then unit norm.

        With `kept` (B, P) only these patches of each video's frames are read (patch dropout).
        """
        return self.embed_features(self.video_trunk(frames, kept))

    def video_trunk(self, frames: Tensor, kept: Tensor | None = None) -> Tensor:
        """Frames (B, T, C, H, W) -> trunk features (B, T, F)."""
        pixels, n_frames = frames.flatten(0, 1), frames.shape[1]  # (B * T, C, H, W)
        features = self.backbone.image_trunk(pixels, n_frames=n_frames, kept=kept)
        rows: Tensor = features.unflatten(0, (-1, n_frames))  # (B * T, F) -> (B, T, F)
        return rows

    def embed_features(self, features: Tensor) -> Tensor:
        """Trunk features (B, T, F) -> z_v (B, D), as `encode_video` of the frames they are of."""
        raw = self.backbone.image_head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return F.normalize(raw.float().mean(1), dim=-1)  # (B, T, D) -> (B, D)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> z_t (N, D), unit norm."""
        return F.normalize(self.backbone.encode_text(tokens).float(), dim=-1)

    def freeze(self, trainable: Trainable) -> list[str]:
        """Let only the named part learn; returns the names of its parameters."""
        names = [name for name, _ in self.backbone.named_parameters()]
        visual = set(self.backbone.visual_parameters())
        parts = {
            "all": names,
            "head": self.backbone.head_parameters(),
            "visual": [name for name in names if name in visual],
            "text": [name for name in names if name not in visual],
        }
        chosen = {f"backbone.{name}" for name in parts[trainable]}
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in chosen)
        return [name for name, _ in self.named_parameters() if name in chosen]

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write the backbone, and sigma into `maxi.json`: `load_model` reads both back."""
        for name, buffer in self.named_buffers():
            if name.endswith(".logit_scale"):  # CLIP's own: other readers of the folder look there
                buffer.copy_(self.logit_scale)
        self.backbone.save(folder)
        path = folder / SETTINGS
        settings = read_json(path) if path.is_file() else {}
        own: dict[str, Any] = {
            "backbone": self.backbone.kind,
            "sigma": math.exp(-self.logit_scale.item()),
        }
        if (blocks := self.backbone.image_blocks) and blocks.temporal:
            own["temporal_blocks"] = blocks.temporal
        write_json(path, {**settings, **own})


def load_model(
    spec: str,
    device: str = "cpu",
    *,
    sigma: float | None = None,
    normalisation: Normalisation = "model",
) -> VideoCLIP:
    """A VideoCLIP in eval mode from `clip:ID_OR_PATH`, `objects`, or a saved model's or a run's folder.

    `sigma` unset is the one a saved model was trained with, or the recipe's for this backbone.
    """
    backbone, saved = load_backbone(spec, device, normalisation=normalisation), saved_beside(spec)
    if blocks := backbone.image_blocks:
        blocks.temporal = min(saved.temporal_blocks, blocks.n)
    sigma = sigma or saved.sigma or load_config(backbone=spec).train.sigma
    return VideoCLIP(backbone, sigma=sigma).to(device).eval()
