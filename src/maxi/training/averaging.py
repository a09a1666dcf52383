"""Averages of the weights along a training: exponential (EMA), or of the last epochs' ends (SWA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["none", "ema", "swa"]

SWA_FROM = 0.5  # share of the epochs after which their ends are averaged


class Average:
    """Averaged weights, on the weights' device; a function of the steps alone, so that a resumed run has the same."""

    def __init__(self, kind: Kind, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.kind, self.decay, self.parameters = kind, decay, parameters
        self.weights = {n: p.detach().clone() for n, p in parameters.items()}

    @torch.no_grad()
    def step(self, epoch: int, n_epochs: int, *, ends: bool) -> None:
        """After an optimiser step of `epoch`, counted from 0; `ends` says that it was the epoch's last."""
        if self.kind == "ema":
            share = 1 - self.decay
        else:
            n = epoch - int(SWA_FROM * n_epochs) + 1
            share = 1 / max(1, n) if ends else 0.0
        if share:
            for name, average in self.weights.items():
                average.lerp_(self.parameters[name].detach(), share)
