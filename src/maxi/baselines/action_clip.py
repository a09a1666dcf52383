"""ActionCLIP: a transformer over the frames of a video (Wang et al., 2021)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maxi.baselines.baseline import Baseline, Encoder

DEPTH = 6  # blocks, as in its paper


class ActionCLIP(Baseline):
    """Both encoders learn, and a temporal transformer whose output is added to the frames before they are averaged."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.temporal = Encoder(self.width, DEPTH)

    def pooled(self, frames: Tensor) -> Tensor:
        """Average frames that know of each other and of their order: (B, T, D) -> (B, D)."""
        mean: Tensor = (frames + self.temporal(frames)).mean(1)
        return mean
