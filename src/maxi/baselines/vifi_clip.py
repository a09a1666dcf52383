"""ViFi-CLIP: CLIP fine-tuned on labelled videos, frames averaged (Rasheed et al., CVPR 2023)."""

from __future__ import annotations

from maxi.baselines.baseline import Baseline


class ViFiCLIP(Baseline):
    """Both encoders learn, by cross-entropy over the names' prompts."""


class ViFiImage(Baseline):
    """Only the image encoder learns."""

    trainable = "visual"


class ViFiText(Baseline):
    """Only the text encoder learns."""

    trainable = "text"
