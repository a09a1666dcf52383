"""Several processes that train one model: which one this is, and what they exchange. `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # how long the others wait for a process that is still decoding


@dataclass(frozen=True)
class World:
    """The number of this process, from 0, among `size` processes; one process alone exchanges nothing."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def part(self, rows: Sequence[T]) -> list[T]:
        """Return this process's share of a list that all processes hold: contiguous, and of nearly equal size."""
        return [rows[i] for i in np.array_split(np.arange(len(rows)), self.size)[self.rank]]

    def gather_lists(self, rows: Sequence[T]) -> list[T]:
        """Return the lists of all processes as one list, in the order of the processes."""
        if self.size == 1:
            return list(rows)
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(rows))
        return [row for part in parts for row in part]

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Return the rows (N, D) of all processes, in the order of the processes, and which of them are this one's.

        The returned rows have no gradient.
        """
        if self.size == 1:
            return rows.detach().clone(), slice(0, len(rows))
        lengths = self.gather_lists([len(rows)])
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        start = sum(lengths[: self.rank])
        gathered = torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])
        return gathered, slice(start, start + len(rows))

    def together(self, work: Callable[[], T]) -> T:
        """Call `work`, which must exchange nothing, and return its result.

        Raises OutOfMemoryError in all processes when one of them has no room.
        """
        if self.size == 1:
            return work()
        results: list[T] = []
        with suppress(torch.OutOfMemoryError):
            results.append(work())
        if not all(self.gather_lists([bool(results)])):
            raise torch.OutOfMemoryError("out of memory in at least one process")
        return results[0]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by the sum over all processes; a missing one counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Wait until all processes have come to this point."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Wait for all processes, and leave the group.

        A process that exits while others still hold connections to it may abort them.
        """
        if self.size > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def n_processes() -> int:
    """Return how many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world() -> World:
    """Return the world in which `torchrun` started this process; the first call joins it (NCCL on GPUs, else gloo)."""
    size = n_processes()
    if size == 1:
        return World()
    if not dist.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    return World(dist.get_rank(), size)
