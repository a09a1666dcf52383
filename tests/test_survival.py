"""A training that is killed again and again ends with the weights of an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from maxi.progress import silent
from maxi.run import Run
from maxi.stages.adapt import adapt
from test_adapt import settings

# Counts what is done to files of checkpoints, so that it dies at the same place on a fast and on a slow machine.
DIES = """
import os, runpy, signal, sys
left = int(sys.argv.pop(1))
def heard(event, given):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and "checkpoints" in str(given[0]):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(heard)
runpy.run_module("maxi", run_name="__main__")
"""


def train_until(n: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Train, and die before the `n`-th time that something is done to a file of a checkpoint."""
    command = [sys.executable, "-c", DIES, str(n), "-q", "train", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_kill_9_costs_no_bit(videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path) -> None:
    config = settings(
        tiny_clip, "epochs=40", "checkpoint_seconds=0", "holdout=0.3", "result=best", "average=ema"
    )
    whole = adapt(str(videos), actions, tmp_path / "whole", config, progress=silent)
    run = adapt(
        str(videos), actions, tmp_path / "run", settings(tiny_clip, "epochs=1"), progress=silent
    )
    command = [str(run.folder), "-s", "train.average=ema"]
    for setting in ("epochs=40", "checkpoint_seconds=0", "holdout=0.3", "result=best"):
        command += ["-s", setting]
    chance = random.Random(0)
    for _ in range(5):
        done = train_until(chance.randrange(40, 120), *command)
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = train_until(10**9, *command)
    assert done.returncode == 0, done.stderr
    one, other = (load_file(r.model / "model.safetensors") for r in (whole, Run(run.folder)))
    assert all((other[name] == tensor).all() for name, tensor in one.items())
