"""The worker's side of decoding: the program that runs in each process of the pool, `python -m maxi.video.worker`.

It is given the bytes of memory that it may take, and writes one line when it is ready. Then it reads one JSON line for
each request, and answers with one JSON line, followed by raw bytes where frames, a probe or a preview were asked for:
the pixels, the times of the frames, or an MP4. The parent's side, which starts and kills such processes, is in
`workers.py`.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

from maxi.errors import MISTAKES, MaxiError
from maxi.video.decode import decode_frames, probe
from maxi.video.identity import content_id
from maxi.video.preview import Span, preview

LINE_LIMIT = 2**16  # bytes of a JSON line in an answer
TRACE_LIMIT = 2**13  # characters, each up to six bytes of a line
READY = b"ready\n"


def serve(requests: Iterable[bytes], replies: IO[bytes]) -> None:
    """Answer requests, a JSON line each, until there are no more."""
    for line in requests:
        header, data = _answer(json.loads(line))
        replies.write(json.dumps(header).encode() + b"\n")
        if data is not None:
            replies.write(data.data.cast("B"))
        replies.flush()
        gc.collect()  # PyAV leaves a frame of each file in a cycle, which may take much memory


def _answer(message: dict[str, Any]) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Return the JSON line of an answer, and the bytes behind it where there are some; a failure is an answer too."""
    path, wanted = message["path"], message["wanted"]
    try:
        if wanted == "id":
            return {"id": content_id(path)}, None
        if wanted == "probe":
            found = probe(path)
            row = found.n_frames, found.fps, found.width, found.height, found.short
            keys = found.keys.astype(np.float64)  # stamps below 2 ** 53 stay as they are
            return {"probe": row, "n_keys": len(keys)}, np.concatenate([found.times, keys.ravel()])
        if isinstance(wanted, dict):
            data = preview(path, Span(**wanted))
            return {"preview": data.nbytes}, data
        frames = decode_frames(path, wanted, message.get("seek"))
    except MaxiError as error:
        lacks_memory = isinstance(error.__cause__, MemoryError)
        return {"error": str(error), "lacks_memory": lacks_memory}, None
    except MemoryError:
        return {"error": "needs more memory than there is", "lacks_memory": True}, None
    except Exception as error:  # the worker goes on, whatever a broken file causes
        if isinstance(error, MISTAKES) and not isinstance(error, av.FFmpegError):
            return {"mistake": traceback.format_exc()[-TRACE_LIMIT:]}, None
        return {"error": f"cannot be decoded ({type(error).__name__}: {error})"[:1000]}, None
    return {"size": frames.shape[1:3]}, frames


def _limit_memory(limit: int) -> None:
    """Limit this process to so many bytes, where the system can, so that a broken file cannot fill the machine's."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    with suppress(OSError, ValueError):  # macOS has the limit but may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _requests() -> Iterable[bytes]:
    """Yield the lines of stdin. When it is closed, because the parent is gone, this process ends, whatever it does."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)  # at once: nobody is left to read what a normal end would still write

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def _main() -> None:
    """Say on stdout that this process is ready, and answer the requests of stdin until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    if hasattr(os, "nice"):  # Windows lacks it
        os.nice(10)
    _limit_memory(int(sys.argv[1]))
    # What a library prints must not get between the answers, so only `replies` still leads to the parent.
    replies = os.fdopen(os.dup(1), "wb")
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 1)
    os.dup2(null_device, 2)
    with suppress(BrokenPipeError):
        replies.write(READY)
        replies.flush()
        serve(_requests(), replies)
    os._exit(0)


if __name__ == "__main__":
    _main()
