"""A process's peak memory is its own, and torch keeps little between the steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maxi.memory import SHAPES, peak_memory
from maxi.models.video_clip import load_model

# As in training, where each step has another number of tokens.
PRODUCTS = """
import torch
from maxi.memory import bound_caches, peak_memory

bound_caches()
weight = torch.zeros(128, 128, dtype=torch.bfloat16)
for n in range(1, 1001):
    torch.zeros(n, 128, dtype=torch.bfloat16) @ weight
    if n == 100:
        before = peak_memory()
print(peak_memory() - before)
"""


def test_products_of_ever_new_shapes_take_no_more_memory() -> None:
    """Without the bound they take 600 MB more where the processor computes in bfloat16."""
    caches = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    environment = {name: value for name, value in os.environ.items() if name not in caches}
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 150e6


def test_whoever_loads_a_model_has_bounded_caches(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    load_model(f"clip:{tiny_clip}")
    assert os.environ["LRU_CACHE_CAPACITY"] == SHAPES
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7", "what the user chose"


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
