"""How much memory a process has taken, and a bound on what torch keeps."""

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
