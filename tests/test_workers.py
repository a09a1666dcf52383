"""`maxi.video.workers` and `maxi.video.worker`: a file may hang or crash its worker, and nothing else happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError, UnfinishedError
from maxi.memory import is_stopped
from maxi.video import workers as decoding
from maxi.video.decode import Probe, decode_frames, probe
from maxi.video.workers import Decoder, Request, WorkerError
from media import read_number, write_video

SOURCE = str(Path(__file__).parents[1] / "src")
posix = pytest.mark.skipif(os.name != "posix", reason="needs FIFOs and signals")


def workers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "maxi.video.worker" in process.cmdline():
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def no_worker_stays_behind() -> Iterator[None]:
    assert workers() == []
    yield
    assert workers() == []


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", 12)


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A FIFO that nobody writes to: to open it is to wait for ever."""
    path = tmp_path / "hanging.mp4"
    os.mkfifo(path)
    return path


def test_a_worker_answers_as_the_functions_do(tmp_path: Path, video: Path) -> None:
    odd = write_video(tmp_path / "with space #é:.webm", 5, (321, 241))
    with Decoder(1) as decoder:
        assert decoder.one(Request(video)) == probe(video)
        assert decoder.one(Request(str(odd))) == probe(odd)
        frames = decoder.one(Request(odd, (4, 0, 4, 9)))
        assert isinstance(frames, np.ndarray)
        assert np.array_equal(frames, decode_frames(odd, [4, 0, 4, 9]))
        frames += 1  # writable, as torch.from_numpy wants it


def test_map_keeps_the_order_and_returns_failures_as_values(tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", 200, (320, 240))
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    requests = [
        *(Request(long, (n,)) for n in (199, 0, 150, 1)),
        Request(broken),
        Request(tmp_path / "none.mp4", (0,)),
        Request(long),
    ]
    with Decoder(2) as decoder:
        answers = list(decoder.map(iter(requests)))
    assert [request for request, _ in answers] == requests
    values = [answer for _, answer in answers]
    assert [read_number(value[0]) for value in values[:4]] == [199, 0, 150, 1]
    assert isinstance(values[4], MaxiError)
    assert "not a video" in str(values[4])
    assert isinstance(values[5], MaxiError)
    assert str(values[5]) == "does not exist"
    assert isinstance(values[6], Probe)
    assert values[6].n_frames == 200


def test_one_raises_and_names_the_file(tmp_path: Path) -> None:
    with Decoder(1) as decoder, pytest.raises(MaxiError, match=r"none\.mp4: does not exist"):
        decoder.one(Request(tmp_path / "none.mp4"))


def test_map_takes_requests_as_they_are_needed(video: Path) -> None:
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield Request(video, (n % 12,))

    with Decoder(2) as decoder:
        answers = decoder.map(requests())
        assert taken == 0
        next(answers)
        for done in range(1, 10):
            next(answers)
            assert taken == done + 4
        answers.close()
        # What was under way when its reader left does no harm to the next.
        assert [type(answer) for _, answer in decoder.map([Request(video)])] == [Probe]


def test_map_takes_few_requests_ahead_when_their_answers_are_large(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = decode_frames(video, [0]).nbytes
    monkeypatch.setattr(decoding, "BYTES_AHEAD", 10 * size)
    taken = []

    def requests() -> Iterator[Request]:
        for n in [1, 1, 5, 5, 5, 5, 5, 100, 100, 100, 1, 1, 1, 1]:
            taken.append(n)
            yield Request(video, (0,) * n)

    with Decoder(2) as decoder:
        ahead = []
        for n, (request, answer) in enumerate(decoder.map(requests())):
            assert isinstance(answer, np.ndarray)
            assert len(answer) == len(request.wanted) == taken[n]
            ahead.append(len(taken) - n)
    # The answer in hand counts: two of five frames are under way at a time, one of a hundred.
    assert ahead == [2, 4, 4, 3, 2, 2, 2, 2, 1, 1, 1, 3, 2, 1]


@posix
def test_a_hanging_worker_is_killed_and_replaced(video: Path, hanging: Path) -> None:
    with Decoder(1) as decoder:
        before = decoder.one(Request(video))
        (worker,) = decoder._workers
        patient, worker.deadline = worker.deadline, 0.5
        ((_, hung),) = decoder.map([Request(hanging, (0,))])
        worker.deadline = patient  # no answer is late because the machine is busy
        after = decoder.one(Request(video))
    assert before == after == probe(video)
    assert isinstance(hung, MaxiError)
    assert str(hung) == "decoding took longer than 0.5 s"


@posix
def test_a_crash_costs_one_answer(video: Path, hanging: Path) -> None:
    with Decoder(1) as decoder:
        decoder.one(Request(video))
        ends = []

        def crash() -> None:
            for _ in range(2):  # a request is tried twice
                # This waits until the worker opens the other end.
                ends.append(os.open(hanging, os.O_WRONLY))
                (worker,) = workers()
                worker.send_signal(signal.SIGSEGV)
                while psutil.pid_exists(worker.pid):  # until then it may still hold its end
                    time.sleep(0.01)

        threading.Thread(target=crash, daemon=True).start()
        requests = [Request(hanging), Request(video)]
        crashed, after = (answer for _, answer in decoder.map(requests))
        # One that dies while it has nothing to do costs none.
        (worker,) = workers()
        worker.kill()
        psutil.wait_procs([worker])
        assert decoder.one(Request(video)) == after
    assert isinstance(crashed, UnfinishedError)
    assert str(crashed) == "the decoder crashed (signal 11)"
    for end in ends:
        os.close(end)
    assert after == probe(video)


@posix
def test_a_good_video_survives_one_crash(video: Path, hanging: Path, tmp_path: Path) -> None:
    def crash() -> None:
        end = os.open(hanging, os.O_WRONLY)
        shutil.copy(video, tmp_path / "copy")
        (tmp_path / "copy").replace(hanging)
        (worker,) = workers()
        worker.kill()
        os.close(end)

    thread = threading.Thread(target=crash, daemon=True)
    thread.start()
    with Decoder(1) as decoder:
        assert decoder.one(Request(hanging)) == probe(video)
    thread.join()


def test_time_in_which_a_worker_is_stopped_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    process = SimpleNamespace(pid=1, kill=lambda: None)
    answered, expired = threading.Event(), threading.Event()
    n_asked = 0

    def is_stopped(pid: int) -> bool:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 20:
            answered.set()
        return True

    monkeypatch.setattr(decoding, "TICK", 0.01)
    monkeypatch.setattr(decoding, "is_stopped", is_stopped)
    decoding._watch(cast(Any, process), 0.05, answered, expired)
    assert (n_asked, expired.is_set()) == (20, False)
    monkeypatch.setattr(decoding, "is_stopped", lambda pid: False)
    decoding._watch(cast(Any, process), 0.05, threading.Event(), expired)
    assert expired.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read on Linux only")
def test_a_stopped_process_is_known() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        while not is_stopped(process.pid):
            time.sleep(0.01)
        process.kill()
    assert not is_stopped(process.pid)


def test_what_lacks_memory_is_tried_alone_with_more(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "total_memory", lambda: 32 * 2**30)
    with Decoder(4) as decoder:
        assert [worker.memory for worker in decoder._workers] == 4 * [2 * 2**30]
        assert decoder._large.memory == 8 * 2**30
        for worker in decoder._workers:
            lacking = decoding._LacksMemoryError()
            monkeypatch.setattr(worker, "run", lambda request, lacking=lacking: lacking)
        assert decoder.one(Request(video)) == probe(video)
        assert workers() == []  # the large one gives its memory back


def test_a_hole_in_a_file_gives_no_time(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.mp4"
    with sparse.open("wb") as file:
        file.write(bytes(4096))
        file.truncate(2**40)
    if sparse.stat().st_blocks * 512 >= 2**40:
        pytest.skip("this file system has no holes")
    assert decoding._bytes_on_disk(sparse) < 2**30
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(bytes(100_000))
    assert decoding._bytes_on_disk(whole) == 100_000
    assert decoding._bytes_on_disk(tmp_path / "none.mp4") == 0


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a module before all others for the workers, whose parent has imported its own long ago."""

    def put(name: str, code: str) -> None:
        folder = tmp_path / "first on the path"
        folder.mkdir()
        (folder / name).write_text(code)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    return put


def test_wrong_code_in_a_worker_is_not_told_of_the_file(
    video: Path, in_workers: Callable[[str, str], None]
) -> None:
    # As in a PyAV that no longer takes an argument.
    in_workers("sitecustomize.py", "import av\n\ndef opened(file): ...\n\nav.open = opened\n")
    with Decoder(1) as decoder:
        with pytest.raises(WorkerError, match="failed: TypeError: opened") as caught:
            decoder.one(Request(video))
        assert 'decode.py", line' in str(caught.value.__cause__)
        with pytest.raises(WorkerError):
            list(decoder.map([Request(video)]))
        with pytest.raises(MaxiError, match="does not exist"):
            decoder.one(Request("none.mp4"))
    told = CliRunner().invoke(main, ["check", str(video.parent)])
    assert told.exit_code == 1
    assert told.stdout == ""
    assert "unexpected error (WorkerError: the decoder failed: TypeError: opened" in told.stderr


def test_debug_shows_the_workers_traceback(
    video: Path, in_workers: Callable[[str, str], None]
) -> None:
    in_workers("sitecustomize.py", "import av\n\ndef opened(file): ...\n\nav.open = opened\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "maxi", "--debug", "check", str(video)]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert shown.returncode == 1
    assert "in decode_frames" in shown.stderr or "in probe" in shown.stderr


def test_a_worker_that_does_not_start_is_not_a_crash_on_the_file(
    video: Path, in_workers: Callable[[str, str], None]
) -> None:
    in_workers("av.py", "raise ImportError('libavcodec is not for this machine')")
    with Decoder(1) as decoder:
        for _ in range(2):
            with pytest.raises(WorkerError, match=r"does not start \(.+\): ImportError: lib"):
                decoder.one(Request(video))


@pytest.mark.parametrize("error", ["av.error.NotImplementedError(38, 'x')", "ValueError('odd')"])
def test_what_broken_files_bring_up_is_told_of_the_file(
    video: Path, in_workers: Callable[[str, str], None], error: str
) -> None:
    in_workers(
        "sitecustomize.py",
        f"import av, maxi.video.decode\n\ndef probe(path):\n    raise {error}\n\nmaxi.video.decode.probe = probe\n",
    )
    with Decoder(1) as decoder, pytest.raises(MaxiError, match="cannot be decoded"):
        decoder.one(Request(video))


def test_impossible_indices_are_the_callers_error(video: Path) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        Request(video, ())


def test_a_worker_is_replaced_after_its_share(video: Path) -> None:
    pids = []
    with Decoder(1, max_tasks=2) as decoder:
        for _ in range(5):
            decoder.one(Request(video, (3,)))
            pids += [worker.pid for worker in workers()]
    assert len(pids) == 5
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_single_requests_need_one_process(video: Path) -> None:
    with Decoder(4) as decoder:
        for _ in range(3):
            decoder.one(Request(video))
        assert len(workers()) == 1


@posix
def test_the_end_of_the_block_kills_hanging_workers_at_once(hanging: Path) -> None:
    with Decoder(2, deadline=3600) as decoder:
        answers = decoder.map([Request(hanging)] * 9)
        reader = threading.Thread(target=lambda: next(answers, None), daemon=True)
        reader.start()
        while len(workers()) < 2:
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < 1800  # half of what they would have had
    reader.join()


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads limits on Linux only")
def test_the_memory_of_a_worker_is_limited(video: Path) -> None:
    with Decoder(1) as decoder:
        decoder.one(Request(video))
        (worker,) = workers()
        assert worker.rlimit(psutil.RLIMIT_AS)[0] == decoder._workers[0].memory


@posix
def test_ctrl_c_is_left_to_the_parent(video: Path) -> None:
    with Decoder(1) as decoder:
        decoder.one(Request(video))
        (worker,) = workers()
        worker.send_signal(signal.SIGINT)
        time.sleep(0.2)
        decoder.one(Request(video))
        assert workers() == [worker]


@posix
def test_ctrl_c_ends_a_plain_script_and_its_workers(
    tmp_path: Path, video: Path, hanging: Path
) -> None:
    # No `__main__` guard, the package only on `sys.path`, and a trap for careless imports.
    if sys.version_info >= (3, 11):
        (tmp_path / "av.py").write_text("raise SystemExit('the wrong av')")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "from maxi.video.workers import Decoder, Request\n"
        "with Decoder(1) as decoder:\n"
        f"    print(decoder.one(Request({str(video)!r})).n_frames, flush=True)\n"
        f"    decoder.one(Request({str(hanging)!r}))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "12\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 1
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
    _, complaints = process.communicate(timeout=600)
    assert "KeyboardInterrupt" in complaints
    assert process.returncode != 0
    _, alive = psutil.wait_procs(family, timeout=600)
    assert alive == []


@posix
def test_a_worker_ends_with_its_parent_whatever_it_does(video: Path, hanging: Path) -> None:
    script = (
        "import os, sys, threading\n"
        "from maxi.video.workers import Decoder, Request\n"
        "decoder = Decoder(1)\n"
        "decoder.one(Request(sys.argv[1]))\n"
        "hangs = lambda: decoder.one(Request(sys.argv[2]))\n"
        "threading.Thread(target=hangs, daemon=True).start()\n"
        "with open(sys.argv[2], 'w'):\n"  # opened when the worker has opened it too
        "    print(decoder._workers[0].process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", script, str(video), str(hanging)]
    other_end = os.open(hanging, os.O_RDWR)  # so that the worker reads on for ever
    pid = int(subprocess.run(command, env=environment, capture_output=True).stdout)
    for _ in range(12_000):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            os.close(other_end)
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")


def test_reading_videos_loads_no_torch() -> None:
    check = "import sys, maxi.video.workers, maxi.video.sources; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
