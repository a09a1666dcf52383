"""Timing two ways of doing one thing in turn, A B A B ..., so that a busy machine slows both alike."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch

S = TypeVar("S")


@dataclass(frozen=True)
class Pairs:
    """Seconds of two ways, pair by pair; a ratio says how many times as long the second took."""

    ours: Sequence[float]
    other: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [b / a for a, b in zip(self.ours, self.other, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def __str__(self) -> str:
        times = f"{median(self.other):9.4f} s -> {median(self.ours):9.4f} s"
        low, high = min(self.ratios), max(self.ratios)
        return f"{times}  {self.ratio:6.2f} x  ({low:.2f} to {high:.2f}, {len(self.ratios)} pairs)"


def in_turn(ours: Callable[[], object], other: Callable[[], object], n: int) -> Pairs:
    """Time both `n` times, one after the other, after a warm-up of each."""
    ours()
    other()
    times = [(seconds(ours), seconds(other)) for _ in range(n)]
    return Pairs([a for a, _ in times], [b for _, b in times])


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def gradient_norm(parameters: Any) -> float:
    """The length of the gradient over all parameters that have one."""
    return float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())


def same(what: str, ours: Sequence[float], other: Sequence[float], tolerance: float = 1e-4) -> bool:
    """Whether two ways give the same numbers, relative to their size; says so where they do not."""
    off = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, other, strict=True))
    if off > tolerance:
        print(f"{what}: DIFFERENT by {off:.1e}: {list(ours)} and {list(other)}")
    return off <= tolerance


def kept(what: str, found: float, limit: float, *, most: bool = False) -> bool:
    """Print whether a figure keeps its limit."""
    fine = found <= limit if most else found >= limit
    bound = "at most" if most else "at least"
    print(f"{what}: {found:.3g}, {bound} {limit}: {'kept' if fine else 'MISSED'}", flush=True)
    return fine


def run(measure: Callable[[S], bool], description: str | None, real: S, tiny: S) -> None:
    """Measure on all cores under stated conditions; exit with 1 when `measure` says that a limit was missed."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--tiny", action="store_true", help="sizes that only show that the script runs"
    )
    sizes = tiny if parser.parse_args().tiny else real
    torch.set_num_threads(os.cpu_count() or 1)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32 on the CPU, {busy()}"
    )
    fine = measure(sizes)
    print(f"at the end {busy()}")
    sys.exit(not fine)


def busy() -> str:
    """What else the machine is doing."""
    return "load average {:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
