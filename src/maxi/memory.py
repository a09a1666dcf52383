"""What the system says of memory and of processes, and a bound on what torch keeps."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

SHAPES = "32"
"""For so many shapes torch keeps what it made ready for a product in bfloat16 on the CPU, in each of its two caches."""


def bound_caches() -> None:
    """Let torch's caches of products on the CPU hold few shapes, unless the environment says how many.

    Every step has another number of texts and tokens, so its shapes do not come again. By default torch keeps 1,024 of
    them twice, which takes 2 GB whatever the size of the model. It reads these variables at its first such product.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, SHAPES)


def peak_memory(pid: int | None = None) -> int:
    """Return the most bytes of memory that a process, by default this one, has held; 0 where the system does not say.

    On Linux it is read from `/proc`, because `ru_maxrss` also counts the memory of the process that started this one.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # in kB
                return 1024 * int(line.split()[1])
    if pid is None and sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def total_memory() -> int:
    """Return the bytes of memory that this process may use at most; 0 where the system does not say."""
    total = 0
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        with suppress(OSError, ValueError):
            total = min(total, int(Path("/sys/fs/cgroup", limit).read_text()))
    return max(0, total)


def is_stopped(pid: int) -> bool:
    """Return whether a process is suspended, as by Ctrl-Z; False where the system does not say."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("State:"):
                return line.split()[1] in ("T", "t")
    return False
