"""The worker's side of decoding: the program that runs in each process of the pool, `python -m maxi.video.worker`.

It writes one line when it is ready. Then it reads one JSON line for each request, and answers with one JSON line,
followed by the raw bytes of the frames where frames were asked for. The parent's side, which starts and kills such
processes, is in `workers.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

from maxi.errors import MISTAKES, MaxiError
from maxi.video.decode import decode_frames, probe

MEMORY_LIMIT = 8 * 2**30  # bytes of address space
LINE_LIMIT = 2**16  # bytes of a JSON line in an answer
TRACE_LIMIT = 2**13  # characters, each up to six bytes of a line
READY = b"ready\n"


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests, a JSON line each, until there are no more."""
    for line in requests:
        header, frames = _answer(json.loads(line))
        replies.write(json.dumps(header).encode() + b"\n")
        if frames is not None:
            replies.write(frames.data.cast("B"))
        replies.flush()


def _answer(message: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Return the JSON line of an answer and its frames, where there are some; a failure is an answer too."""
    try:
        if message["indices"] is None:
            return {"probe": asdict(probe(message["path"]))}, None
        frames = decode_frames(message["path"], message["indices"])
    except MaxiError as error:
        return {"error": str(error)}, None
    except Exception as error:  # the worker goes on, whatever a broken file causes
        if isinstance(error, MISTAKES) and not isinstance(error, av.FFmpegError):
            return {"mistake": traceback.format_exc()[-TRACE_LIMIT:]}, None
        return {"error": f"cannot be decoded ({type(error).__name__}: {error})"[:1000]}, None
    return {"size": frames.shape[1:3]}, frames


def _limit_memory() -> None:
    """Limit this process to MEMORY_LIMIT, where the system can, so that a broken file cannot fill the machine's."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    with suppress(OSError, ValueError):  # macOS has the limit but may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _main() -> None:
    """Say on stdout that this process is ready, and answer the requests of stdin until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    os.nice(10)
    _limit_memory()
    # What a library prints must not get between the answers, so only `replies` still leads to the parent.
    replies = os.fdopen(os.dup(1), "wb")
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 1)
    os.dup2(null_device, 2)
    with suppress(BrokenPipeError):
        replies.write(READY)
        replies.flush()
        serve(sys.stdin.buffer, replies)
    os._exit(0)  # at once: nobody is left to read what a normal end would still write


if __name__ == "__main__":
    _main()
