"""Time two ways of doing one thing in turn, A B A B ..., so that a busy machine slows both alike."""

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
    """The seconds of two ways, pair by pair; a ratio says how many times as long the other took."""

    ours: Sequence[float]
    other: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [other / ours for ours, other in zip(self.ours, self.other, strict=True)]

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
    return Pairs([first for first, _ in times], [second for _, second in times])


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def gradient_norm(parameters: Any) -> float:
    """Return the length of the gradient over all parameters that have one."""
    return float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())


def same(what: str, ours: Sequence[float], other: Sequence[float], tolerance: float = 1e-4) -> bool:
    """Return whether two ways give the same numbers, relative to their size; print them where they do not."""
    pairs = zip(ours, other, strict=True)
    difference = max(abs(one - two) / max(abs(two), 1e-12) for one, two in pairs)
    if difference > tolerance:
        print(f"{what}: DIFFERENT by {difference:.1e}: {list(ours)} and {list(other)}")
    return difference <= tolerance


def kept(what: str, figure: float, limit: float, *, most: bool = False) -> bool:
    """Print and return whether a figure keeps its limit, which is the least that it may be, or the most."""
    fine = figure <= limit if most else figure >= limit
    bound = "at most" if most else "at least"
    print(f"{what}: {figure:.3g}, {bound} {limit}: {'kept' if fine else 'MISSED'}", flush=True)
    return fine


def run(measure: Callable[[S], bool], description: str | None, real: S, tiny: S) -> None:
    """Print the conditions and measure on all cores; exit with 1 when `measure` says that a limit was missed."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    only_runs = "sizes that only show that the script runs"
    parser.add_argument("--tiny", action="store_true", help=only_runs)
    sizes = tiny if parser.parse_args().tiny else real
    torch.set_num_threads(os.cpu_count() or 1)
    threads = f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {threads}, float32 on the CPU, {busy()}")
    fine = measure(sizes)
    print(f"at the end {busy()}")
    sys.exit(not fine)


def busy() -> str:
    """Say how busy the machine is."""
    return "load average {:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
