"""VideoCLIP: frames to video embeddings, texts to text embeddings, with any backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.backbones import Backbone, Normalisation, load_backbone
from maxi.config import load_config

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

    def encode_video(self, frames: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) -> z_v (B, D): mean over T of raw embeddings, then unit norm."""
        features = self.backbone.image_trunk(frames.flatten(0, 1))  # (B * T, C, H, W) -> (B * T, F)
        return self.embed_features(features.unflatten(0, frames.shape[:2]))

    def embed_features(self, features: Tensor) -> Tensor:
        """Trunk features (B, T, F) -> z_v (B, D), as `encode_video` of the frames they are of."""
        raw = self.backbone.image_head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return F.normalize(raw.mean(1), dim=-1)  # (B, T, D) -> (B, D)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> z_t (N, D), unit norm."""
        return F.normalize(self.backbone.encode_text(tokens), dim=-1)

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


def load_model(
    spec: str,
    device: str = "cpu",
    *,
    sigma: float | None = None,
    normalisation: Normalisation = "model",
) -> VideoCLIP:
    """A VideoCLIP in eval mode from `clip:ID_OR_PATH`, `objects` or a run folder."""
    sigma = sigma or load_config(backbone=spec).train.sigma  # unset: the recipe's for this backbone
    backbone = load_backbone(spec, device, normalisation=normalisation)
    return VideoCLIP(backbone, sigma=sigma).to(device).eval()
