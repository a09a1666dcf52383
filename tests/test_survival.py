"""A training that is killed again and again ends with the weights of an undisturbed one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from maxi.pipeline import adapt
from maxi.progress import silent
from maxi.runs import Run
from test_pipeline import settings


@pytest.mark.slow
def test_kill_9_costs_no_bit(videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path) -> None:
    config = settings(
        tiny_clip, "epochs=40", "checkpoint_seconds=0", "holdout=0.3", "result=best", "average=ema"
    )
    whole = adapt(str(videos), actions, tmp_path / "whole", config, progress=silent)
    run = adapt(
        str(videos), actions, tmp_path / "run", settings(tiny_clip, "epochs=1"), progress=silent
    )
    command = [sys.executable, "-m", "maxi", "-q", "train", str(run.folder)]
    for setting in ("epochs=40", "checkpoint_seconds=0", "holdout=0.3", "result=best"):
        command += ["-s", setting]
    command += ["-s", "train.average=ema"]
    chance = random.Random(0)
    kills = 0
    while True:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        states = run.folder / "checkpoints"
        before = _newest(states)
        # From the first step that this process adds on, at any moment.
        while process.poll() is None and _newest(states) == before and kills < 5:
            time.sleep(0.01)
        if kills < 5:
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
            kills += process.wait() == -9
        else:
            assert process.wait() == 0, process.stderr and process.stderr.read()
        if process.returncode == 0:
            break
    assert kills >= 3
    one, other = (load_file(r.model / "model.safetensors") for r in (whole, Run(run.folder)))
    assert all((other[name] == tensor).all() for name, tensor in one.items())


def _newest(states: Path) -> str:
    return max((p.name for p in states.glob("step-*")), default="")
