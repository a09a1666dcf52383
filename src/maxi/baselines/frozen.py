"""Frozen CLIP, the start of all: nothing learns."""

from __future__ import annotations

from maxi.baselines.baseline import Baseline


class Frozen(Baseline):
    """CLIP as it is, with the mean of many prompts for a name."""

    trainable = None
