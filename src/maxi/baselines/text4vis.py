"""Text4Vis: the names' embeddings are the weights of a classifier that does not move (Wu et al., AAAI 2023)."""

from __future__ import annotations

from maxi.baselines.baseline import Temporal


class Text4Vis(Temporal):
    """The image encoder and the transformer over the frames learn; the frozen text encoder makes the classifier."""

    trainable = "visual"
