"""Calls in processes of their own: results, errors, and no process that outlives the one that asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maxi import processes
from maxi.errors import MaxiError
from maxi.processes import call_apart


def double(number: int) -> int:
    if number < 0:
        raise MaxiError(f"{number} is negative; give another")
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number // (number != 77)


def wait(folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def test_results_come_with_their_numbers() -> None:
    assert dict(call_apart(double, [(k,) for k in range(5)], 2)) == {k: 2 * k for k in range(5)}
    assert list(call_apart(double, [], 2)) == []


def test_errors_come_back() -> None:
    with pytest.raises(MaxiError, match="-1 is negative"):
        list(call_apart(double, [(1,), (-1,)], 1))
    with pytest.raises(MaxiError, match=r"ended with the code -9.*fewer --jobs"):
        list(call_apart(double, [(99,)], 1))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(call_apart(double, [(77,)], 1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_asked(how: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from maxi.processes import call_apart\n"
        "from test_processes import wait\n"
        "if __name__ == '__main__':\n"
        f"    list(call_apart(wait, [(Path({str(tmp_path)!r}),)], 1))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, program], env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(how)
    parent.communicate()
    while is_alive(child):
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody has asked for counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 0),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0),
        ({"cpu.max": "what\n"}, 0),
        ({}, 0),
    ],
)
def test_the_quota_of_a_container_counts(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processes._quota(tmp_path) == cores
    assert processes.n_cores() >= 1
