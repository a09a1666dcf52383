"""Several processes that train one model: who is who, and what they exchange. `torchrun` starts them."""

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

PATIENCE = timedelta(minutes=30)  # for a process that is still decoding


@dataclass(frozen=True)
class World:
    """This process's number, from 0, among `size` processes; alone, nothing is exchanged."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def part(self, rows: Sequence[T]) -> list[T]:
        """This process's share of a list that all hold: contiguous, of nearly equal size."""
        return [rows[i] for i in np.array_split(np.arange(len(rows)), self.size)[self.rank]]

    def gather_lists(self, rows: Sequence[T]) -> list[T]:
        """The lists of all processes in the order of their numbers."""
        if self.size == 1:
            return list(rows)
        found: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(found, list(rows))
        return [row for part in found for row in part]

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows (N, D) of all processes in the order of their numbers, without gradient, and where one's own are."""
        if self.size == 1:
            return rows.detach().clone(), slice(0, len(rows))
        lengths = self.gather_lists([len(rows)])
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        found = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(found, padded)
        start = sum(lengths[: self.rank])
        whole = torch.cat([part[:n] for part, n in zip(found, lengths, strict=True)])
        return whole, slice(start, start + len(rows))

    def together(self, work: Callable[[], T]) -> T:
        """What `work` returns, which exchanges nothing; OutOfMemoryError everywhere when one has no room."""
        if self.size == 1:
            return work()
        done: list[T] = []
        with suppress(torch.OutOfMemoryError):
            done.append(work())
        if not all(self.gather_lists([bool(done)])):
            raise torch.OutOfMemoryError("out of memory in at least one process")
        return done[0]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by the sum over all processes; a missing one counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """End together: a process that exits while others still hold connections to it may abort them."""
        if self.size > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def n_processes() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world() -> World:
    """The world that `torchrun` started this process in, joined on the first call: NCCL on GPUs, otherwise gloo."""
    size = n_processes()
    if size == 1:
        return World()
    if not dist.is_initialized():
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    return World(dist.get_rank(), size)
