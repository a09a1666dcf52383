"""VideoCLIP: embed videos and texts with any backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.files import read_json, write_json
from maxi.memory import bound_caches
from maxi.models.backbone import Backbone, Normalisation
from maxi.models.load import load_backbone, saved_beside
from maxi.models.saving import SETTINGS, check_finite
from maxi.settings import load_config

Trainable = Literal["all", "head", "visual", "text"]


class VideoCLIP(nn.Module):
    """A backbone applied to videos (section 3.1); the temperature is the only added parameter.

    `logit_scale` is log(1/sigma), with sigma 0.02 in section 4.2. `freeze` never lets it learn.
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, *, sigma: float = 0.02) -> None:
        super().__init__()
        self.backbone = backbone
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / sigma)), requires_grad=False)

    @property
    def device(self) -> torch.device:
        """The device on which the model computes."""
        return self.logit_scale.device

    def forward(self, frames: Tensor, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the logits (B, N) of B videos and N texts: their cosines, divided by sigma (the terms of Eq. 2).

        `frames` (B, T, C, H, W) are float32, normalised as the backbone needs. `tokens` (N, L) are returned by its
        `tokenize`.
        """
        cosines = self.encode_video(frames) @ self.encode_text(tokens).T  # (B, D) x (D, N)
        return cosines * self.logit_scale.exp()

    def encode_video(self, frames: Tensor, kept: Tensor | None = None) -> Tensor:
        """Embed videos: frames (B, T, C, H, W) -> z_v (B, D), the mean over T of raw embeddings, then unit norm.

        With `kept` (B, P) only these patches of each video's frames are read (patch dropout).
        """
        return self.embed_features(self.video_trunk(frames, kept))

    def video_trunk(self, frames: Tensor, kept: Tensor | None = None) -> Tensor:
        """Compute the trunk features of frames: (B, T, C, H, W) -> (B, T, F)."""
        n_frames = frames.shape[1]
        pixels = frames.flatten(0, 1)  # (B, T, C, H, W) -> (B * T, C, H, W)
        features = self.backbone.image_trunk(pixels, n_frames=n_frames, kept=kept)
        features_of_videos: Tensor = features.unflatten(0, (-1, n_frames))  # -> (B, T, F)
        return features_of_videos

    def embed_features(self, features: Tensor) -> Tensor:
        """Turn trunk features (B, T, F) into z_v (B, D), the same that `encode_video` returns for their frames."""
        raw = self.backbone.image_head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return F.normalize(raw.float().mean(1), dim=-1)  # (B, T, D) -> (B, D)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embed texts: tokens (N, L) -> z_t (N, D), unit norm."""
        return F.normalize(self.backbone.encode_text(tokens).float(), dim=-1)

    def freeze(self, trainable: Trainable) -> list[str]:
        """Let only the named part learn, and return the names of its parameters."""
        names = [name for name, _ in self.backbone.named_parameters()]
        visual = set(self.backbone.visual_parameters())
        parts = {
            "all": names,
            "head": self.backbone.head_parameters(),
            "visual": [name for name in names if name in visual],
            "text": [name for name in names if name not in visual],
        }
        learning = {f"backbone.{name}" for name in parts[trainable]}
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in learning)
        return [name for name, _ in self.named_parameters() if name in learning]

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write the backbone, and sigma and its temporal blocks into `maxi.json`; `load_model` reads all of it back.

        Raises MaxiError when a weight is not finite.
        """
        check_finite(self.backbone, str(folder))
        buffers = dict(self.named_buffers())
        for name, buffer in buffers.items():
            # Programs that know nothing of `maxi.json` read the temperature from CLIP's own buffer. SigLIP's scale
            # belongs to its bias, which our loss does not train: both stay as they were.
            if name.endswith(".logit_scale") and f"{name.removesuffix('scale')}bias" not in buffers:
                buffer.copy_(self.logit_scale)
        self.backbone.save(folder)
        path = folder / SETTINGS
        settings: dict[str, Any] = read_json(path) if path.is_file() else {}
        settings["backbone"] = self.backbone.kind
        settings["sigma"] = math.exp(-self.logit_scale.item())
        if (blocks := self.backbone.image_blocks) and blocks.temporal:
            settings["temporal_blocks"] = blocks.temporal
        write_json(path, settings)


def load_model(
    spec: str,
    device: str = "cpu",
    *,
    sigma: float | None = None,
    normalisation: Normalisation = "model",
    resize_to: int | None = None,
) -> VideoCLIP:
    """Load a VideoCLIP in eval mode from `clip:ID_OR_PATH`, `siglip:ID_OR_PATH`, `objects`, or a model or run folder.

    `sigma` is by default that with which a saved model was trained, or else that of the backbone's recipe.
    `normalisation` and `resize_to` are explained at `load_backbone`. Raises MaxiError when the model cannot be found,
    loaded or used.
    """
    bound_caches()
    backbone = load_backbone(spec, device, normalisation=normalisation, resize_to=resize_to)
    saved = saved_beside(spec)
    if blocks := backbone.image_blocks:
        blocks.temporal = min(saved.temporal_blocks, blocks.n)
    sigma = sigma or saved.sigma or load_config(backbone=spec).train.sigma
    return VideoCLIP(backbone, sigma=sigma).to(device).eval()
