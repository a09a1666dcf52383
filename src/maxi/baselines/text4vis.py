"""Text4Vis: the names' embeddings are the weights of a classifier that does not move (Wu et al., AAAI 2023)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maxi.baselines.baseline import Baseline, Encoder

DEPTH = 6


class Text4Vis(Baseline):
    """The image encoder and a temporal transformer learn; the classifier is made by the frozen text encoder."""

    trainable = "visual"

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.temporal = Encoder(self.width, DEPTH)

    def pooled(self, frames: Tensor) -> Tensor:
        """Average frames that know of each other and of their order: (B, T, D) -> (B, D)."""
        mean: Tensor = (frames + self.temporal(frames)).mean(1)
        return mean
