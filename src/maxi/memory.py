"""How much memory a process has taken."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


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
