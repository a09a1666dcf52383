"""ActionCLIP: a transformer over the frames of a video (Wang et al., 2021)."""

from __future__ import annotations

from maxi.baselines.baseline import Temporal


class ActionCLIP(Temporal):
    """Both encoders and the transformer over the frames learn."""
