"""A process's peak memory is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from maxi.memory import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it of other processes")
def test_a_small_process_that_a_large_one_started_is_small() -> None:
    held = np.ones(2**27, np.uint8)
    tell = "import os; from maxi.memory import peak_memory; print(peak_memory(), peak_memory(os.getpid()))"
    done = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    small, same = map(int, done.stdout.split())
    assert peak_memory() > len(held)
    assert 0 < small < len(held)
    assert same >= small
    assert peak_memory(2**30) == 0
