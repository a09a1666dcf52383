"""Calls in processes of their own, several at a time; they end with the process that asked for them."""

from __future__ import annotations

import math
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError


def n_cores() -> int:
    """Return the number of cores that this process may use: by its affinity, and by the quota of its container."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores, _quota(CGROUP) or cores))


CGROUP = Path("/sys/fs/cgroup")


def _quota(cgroup: Path) -> int:
    """Return how many cores' time a container may use, rounded up; 0 where it has no limit, or the system no groups."""
    with suppress(OSError, ValueError):  # version 2: microseconds that may be used, and of how many
        used, of = (cgroup / "cpu.max").read_text().split()
        return 0 if used == "max" else math.ceil(int(used) / int(of))
    with suppress(OSError, ValueError):  # version 1
        used, of = (
            (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        return max(0, math.ceil(int(used) / int(of)))
    return 0


def end_with_parent() -> None:
    """Let the process that this one was started by alone decide when it ends: by Ctrl-C there, or when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)


def call_apart(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], n: int
) -> Iterator[tuple[int, Any]]:
    """Call a function of a module with each tuple of arguments, `n` calls at a time, each in a process of its own.

    Yields the number of a call and what it returned, as they end. When the generator is closed, all processes are
    ended. Raises MaxiError as the function does, and when a process is killed.
    """
    context, waiting = get_context("spawn"), list(enumerate(calls))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n:
                number, arguments = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_call, args=(theirs, function, arguments), daemon=True
                )
                process.start()
                theirs.close()
                running[ours] = number, process
            for pipe in connection.wait(list(running)):
                number, process = running.pop(pipe)
                yield number, _outcome(pipe, process)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _call(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    try:
        pipe.send((function(*arguments), None, None))
    except MaxiError as error:
        pipe.send((None, str(error), None))
    except Exception:
        pipe.send((None, None, traceback.format_exc()))


def _outcome(pipe: Any, process: Any) -> Any:
    """Return what the process returned, or raise what it raised."""
    try:
        result, refused, trace = pipe.recv()
    except EOFError:
        process.join()
        raise MaxiError(
            f"a process ended with the code {process.exitcode}, maybe for want of memory; run it again with fewer "
            "--jobs"
        ) from None
    process.join()
    if refused is not None:
        raise MaxiError(refused)
    if trace is not None:
        raise RuntimeError(f"a process failed:\n{trace}")
    return result
