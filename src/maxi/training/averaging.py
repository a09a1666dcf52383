"""Averages of the weights over a training: exponential (EMA), or over the ends of the last epochs (SWA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["none", "ema", "swa"]

SWA_FROM = 0.5  # SWA averages the weights at the ends of the epochs after this share of them


class Average:
    """Averaged weights, on the device of the parameters.

    They depend on the steps alone, so that a resumed training gets the same average.
    """

    def __init__(self, kind: Kind, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.kind, self.decay, self.parameters = kind, decay, parameters
        self.weights = {n: p.detach().clone() for n, p in parameters.items()}

    @torch.no_grad()
    def step(self, epoch: int, n_epochs: int, *, ends: bool) -> None:
        """Take in the parameters after an optimiser step of `epoch`, counted from 0.

        `ends` says that the step was the last of its epoch.
        """
        if self.kind == "ema":
            share = 1 - self.decay
        else:
            n_averaged = epoch - int(SWA_FROM * n_epochs) + 1
            share = 1 / max(1, n_averaged) if ends else 0.0
        if share:
            for name, average in self.weights.items():
                average.lerp_(self.parameters[name].detach(), share)
