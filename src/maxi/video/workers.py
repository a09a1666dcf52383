"""The parent's side of decoding: a pool of worker processes, which it starts, asks and kills.

FFmpeg may hang or crash on a broken file, so videos are decoded in processes of their own. `Decoder` is the pool,
`_Worker` is the handle of one process, and `_exchange` sends one request and reads its answer. What fails for a reason
that may pass, such as a busy machine, is tried once more. What runs inside of a process is in `worker.py`, and is
started as `python -m maxi.video.worker`. Nothing is unpickled from a process that decodes untrusted input, and the
caller's script needs no `__main__` guard.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError, UnfinishedError
from maxi.memory import is_stopped, peak_memory, total_memory
from maxi.processes import n_cores
from maxi.records import Video
from maxi.video.decode import Probe, check_indices
from maxi.video.preview import Span
from maxi.video.upright import LARGEST
from maxi.video.worker import LINE_LIMIT, READY

BYTES_AHEAD = 2**30  # of decoded frames: 16 of 1080p are 0.1 GB
SLOWEST = 2**20  # bytes of a file per second: an hour of video takes minutes, and is no hang
MOST_PREVIEW = 2**27  # bytes
TICK = 1.0  # seconds of a deadline that are counted at once
MOST_MEMORY, LEAST_MEMORY = 8 * 2**30, 3 * 2**29  # bytes of address space of one process


Wanted: TypeAlias = Literal["id", "probe"] | tuple[int, ...] | Span
Answer: TypeAlias = str | Probe | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for what is in a file (a `Probe`), for its id (`identity.content_id`), for the frames at some indices, or for
    the preview of a `Span`, the bytes of an MP4. `seek` is a row of `Probe.keys` from which frames are decoded.
    """

    path: str | Path
    wanted: Wanted = "probe"
    seek: tuple[int, int] | None = None

    @classmethod
    def of(cls, video: Video, indices: Sequence[int]) -> Request:
        """Ask for the frames of a video at some indices, which count from its own first frame where it is a segment."""
        seek = None if video.key is None or video.stamp is None else (video.key, video.stamp)
        return cls(video.path, tuple((video.first or 0) + index for index in indices), seek)

    def __post_init__(self) -> None:
        if isinstance(self.wanted, tuple):
            check_indices(self.wanted)


class WorkerError(Exception):
    """The decoder's own code fails, whatever the file; `__cause__` holds the worker's traceback."""


class Decoder:
    """A pool of worker processes, which start when they are first needed and are killed at the end of the `with` block.

    `deadline` is the number of seconds that a request may take; it grows by one for each MiB of the file that is on
    disk. A worker is replaced after `max_tasks` requests, so that memory which it leaks is freed. Half of the machine's
    memory is the budget of all workers: one half of that is shared equally, and the other is kept for one request
    at a time that lacked memory in its share.
    """

    def __init__(
        self, n_workers: int | None = None, deadline: float = 60.0, *, max_tasks: int = 500
    ) -> None:
        n_workers = n_workers or min(8, n_cores())
        budget = (total_memory() or 4 * MOST_MEMORY) // 2
        share = budget // 2 // n_workers
        self._workers = [_Worker(deadline, max_tasks, share) for _ in range(n_workers)]
        self._large = _Worker(deadline, 1, budget // 2)
        self._large_lock = threading.Lock()
        self._idle: queue.LifoQueue[_Worker] = (
            queue.LifoQueue()
        )  # last in, first out: single requests use one process
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="maxi-decoder")

    def map(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Answer | MaxiError]]:
        """Yield each request with its answer, in order; a file that fails gives a MaxiError as its answer.

        Raises WorkerError where the decoder itself is broken, whatever the file. At most two requests
        per worker are taken from `requests` ahead of the answer that is yielded, and only so many that
        their answers fit in 1 GiB if each is as large as the last one.
        """
        source = iter(requests)
        limit = len(self._workers)  # until the first answer shows how large answers are
        pending: deque[tuple[Request, Future[Answer | MaxiError]]] = deque()
        try:
            while True:
                for request in islice(source, max(0, limit - len(pending))):
                    pending.append((request, self._threads.submit(self._run, request)))
                if not pending:
                    return
                request, future = pending.popleft()
                answer = future.result()
                size = answer.nbytes if isinstance(answer, np.ndarray) else 1
                limit = max(1, min(2 * len(self._workers), BYTES_AHEAD // size))
                yield request, answer
        finally:
            for _, future in pending:
                future.cancel()

    def one(self, request: Request) -> Answer:
        """Return the answer to a single request; raises MaxiError, which names the file, when it fails."""
        answer = self._threads.submit(self._run, request).result()
        if isinstance(answer, MaxiError):
            raise MaxiError(f"{request.path}: {answer}")
        return answer

    def __len__(self) -> int:
        return len(self._workers)

    def peak_memory(self) -> int:
        """Return how many bytes of memory the running processes have held at most; 0 where the system does not tell."""
        all_workers = [*self._workers, self._large]
        return sum(peak_memory(worker.process.pid) for worker in all_workers if worker.process)

    def close(self) -> None:
        """Kill the workers at once, whatever they are doing, and wait until they are gone."""
        for worker in (*self._workers, self._large):
            worker.abandon()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in (*self._workers, self._large):
            worker.stop()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, request: Request) -> Answer | MaxiError:
        worker = self._idle.get()
        try:
            answer = worker.run(request)
            if isinstance(answer, UnfinishedError) and not isinstance(answer, _LacksMemoryError):
                answer = worker.run(request)
        finally:
            self._idle.put(worker)
        if isinstance(answer, _LacksMemoryError):
            with self._large_lock:
                answer = self._large.run(request)
                self._large.stop()
        return answer


class _LacksMemoryError(UnfinishedError):
    """A request took more memory than its process may have."""

    def __init__(self) -> None:
        super().__init__("needs more memory than there is")


class _Worker:
    """The handle of one process and its pipes, for one thread at a time; any thread may call `abandon`."""

    def __init__(self, deadline: float, max_tasks: int, memory: int) -> None:
        self.deadline = deadline
        self.max_tasks = max_tasks
        self.memory = min(MOST_MEMORY, max(LEAST_MEMORY, memory))
        self.n_tasks = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.abandoned = False
        self.lock = threading.Lock()

    def run(self, request: Request) -> Answer | MaxiError:
        """Return the answer, or the reason why there is none; raises WorkerError when the decoder itself is broken."""
        process = self._running()
        if process is None:
            return MaxiError("the decoder is closed")
        if self.n_tasks == 1 and (output := _await_ready(process)) is not None:
            ending = _ending(self.stop())
            if self.abandoned:
                return MaxiError("the decoder is closed")
            raise _worker_error(f"does not start ({ending})", output)
        deadline = self.deadline + _bytes_on_disk(request.path) / SLOWEST
        answered, expired = threading.Event(), threading.Event()
        watch = threading.Thread(
            target=_watch, args=(process, deadline, answered, expired), daemon=True
        )
        watch.start()
        try:
            answer = _exchange(process, request)
        except MemoryError:
            self.stop()
            answer = _LacksMemoryError()
        except (OSError, EOFError, ValueError):  # the process is gone, or its answer makes no sense
            answer = None
        except Exception:
            self.stop()  # the process may be in the middle of an answer
            raise
        finally:
            answered.set()
            watch.join()
        if expired.is_set():
            self.stop()
            return UnfinishedError(f"decoding took longer than {deadline:.3g} s")
        if answer is None:
            return UnfinishedError(f"the decoder crashed ({_ending(self.stop())})")
        return answer

    def abandon(self) -> None:
        """Kill the process, and never start another."""
        with self.lock:
            self.abandoned = True
            if self.process is not None:
                self.process.kill()

    def stop(self) -> int:
        """End the process, if there is one, and return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill()
        # Closing the pipes writes out what is left in them, and nobody is there to read it.
        with suppress(OSError), process:
            pass
        return process.wait()

    def _running(self) -> subprocess.Popen[bytes] | None:
        """Return the process, a new one where it has done its share or is gone; None after `abandon`."""
        if self.n_tasks >= self.max_tasks or (self.process and self.process.poll() is not None):
            self.stop()
        with self.lock:
            if self.abandoned:
                return None
            if self.process is None:
                self.process = _start(self.memory)
                self.n_tasks = 0
            self.n_tasks += 1
            return self.process


def _ending(code: int) -> str:
    """Say how a process with this exit code ended."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _bytes_on_disk(path: str | Path) -> int:
    """Return the bytes that a file takes on disk, so that holes do not count; 0 when they cannot be known."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    blocks = getattr(status, "st_blocks", 0)  # of 512 bytes; 0 where a file system does not say
    return min(status.st_size, 512 * blocks) if blocks else status.st_size


def _watch(
    process: subprocess.Popen[bytes],
    deadline: float,
    answered: threading.Event,
    expired: threading.Event,
) -> None:
    """Kill a process that has not answered after `deadline` seconds. While it or this process is stopped, none pass."""
    while deadline > 0:
        tick = min(TICK, deadline)
        if answered.wait(tick):
            return
        if not is_stopped(process.pid):
            deadline -= (
                tick  # and not the seconds that have passed, for this process may have been stopped
            )
    expired.set()
    process.kill()


def _start(memory: int) -> subprocess.Popen[bytes]:
    """Start a process that finds the same modules as this one, and that never writes to the terminal."""
    search_path = [entry or os.getcwd() for entry in sys.path]
    variables = {
        "PYTHONPATH": os.pathsep.join(search_path),
        "PYTHONSAFEPATH": "1",  # else a file av.py in the current folder would be imported
        "OPENBLAS_NUM_THREADS": "1",  # its buffers for threads would count towards the memory limit
    }
    return subprocess.Popen(
        [sys.executable, "-m", "maxi.video.worker", str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # read until the process is ready
        env={**os.environ, **variables},
    )


def _await_ready(process: subprocess.Popen[bytes]) -> str | None:
    """Wait until a new process is ready, and return None; return what it wrote where it ends before that."""
    output = []
    for line in cast(BufferedReader, process.stdout):
        if line.endswith(READY):
            return None
        output.append(line.decode(errors="replace"))
    return "".join(output)


def _exchange(process: subprocess.Popen[bytes], request: Request) -> Answer | MaxiError:
    """Send a request and return its answer, or the reason why the file cannot be used.

    Raises OSError or EOFError when the process ends midway, ValueError when its answer makes no sense,
    and WorkerError when its code is wrong.
    """
    stdin, stdout = cast(IO[bytes], process.stdin), cast(BufferedReader, process.stdout)
    wanted = asdict(request.wanted) if isinstance(request.wanted, Span) else request.wanted
    message = {"path": os.path.abspath(request.path), "wanted": wanted, "seek": request.seek}
    stdin.write(json.dumps(message).encode() + b"\n")
    stdin.flush()
    line = stdout.readline(LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise EOFError("no answer")
    header = json.loads(line)
    if "error" in header:
        return (
            _LacksMemoryError() if header.get("lacks_memory") else MaxiError(str(header["error"]))
        )
    if "mistake" in header:
        raise _worker_error("failed", str(header["mistake"]))
    if request.wanted == "id":
        return str(header["id"])
    if request.wanted == "probe":
        n_frames, fps, width, height, short = header["probe"]
        n_keys = int(header["n_keys"])
        numbers = _read_array(stdout, np.empty(n_frames + 1 + 2 * n_keys, np.float64))
        keys = numbers[n_frames + 1 :].astype(np.int64).reshape(-1, 2)
        return Probe(n_frames, fps, width, height, short, numbers[: n_frames + 1], keys)
    if isinstance(request.wanted, Span):
        n_bytes = int(header["preview"])
        if not 0 < n_bytes <= MOST_PREVIEW:
            raise ValueError("impossible size")
        return _read_array(stdout, np.empty(n_bytes, np.uint8))
    height, width = (int(side) for side in header["size"])
    if not 0 < height * width <= LARGEST:
        raise ValueError("impossible size")
    return _read_array(stdout, np.empty((len(request.wanted), height, width, 3), np.uint8))


def _read_array(stdout: BufferedReader, array: NDArray[Any]) -> NDArray[Any]:
    """Fill an array with the bytes that follow a line."""
    if stdout.readinto(array.data.cast("B")) != array.nbytes:
        raise EOFError("half an answer")
    return array


def _worker_error(what: str, trace: str) -> WorkerError:
    """Return the error that says what the decoder does wrong, with the last line of its traceback."""
    reason = trace.strip().rpartition("\n")[2]
    error = WorkerError(f"the decoder {what}: {reason}")
    error.__cause__ = WorkerError(trace)
    return error
