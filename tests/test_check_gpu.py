"""The script for the first GPU run, on tiny models and a handful of videos in the layout of UCF101."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_gpu.sh"


def check(folder: Path, *before: Path, **more: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(
        [*map(str, before), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    args = [str(folder / name) for name in ("UCF-101", "testlist01.txt", "out")]
    env = {**os.environ, "PATH": path, **more}
    return subprocess.run(["bash", str(SCRIPT), *args], env=env, capture_output=True, text=True)


@pytest.fixture
def ucf(videos: Path, tmp_path: Path) -> Path:
    shutil.copytree(videos, tmp_path / "UCF-101")
    clips = sorted((tmp_path / "UCF-101").rglob("*.mp4"))
    listed = [str(p.relative_to(tmp_path / "UCF-101")) for p in clips[::2]]
    (tmp_path / "testlist01.txt").write_text("\n".join(listed) + "\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(ucf: Path) -> None:
    done = check(ucf)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "check_gpu: torch sees no GPU; install its CUDA build, or set DEVICE=cpu"
    )


@pytest.mark.slow
def test_it_measures_frozen_and_adapted(ucf: Path, tiny_clip: Path) -> None:
    # The demonstration has a test of its own that takes minutes; here it is a command that does nothing.
    shim = ucf / "bin" / "maxi"
    shim.parent.mkdir()
    maxi = Path(sys.executable).parent / "maxi"
    shim.write_text(f'#!/bin/sh\n[ "$1" = demo ] || exec "{maxi}" "$@"\n')
    shim.chmod(0o755)
    done = check(ucf, shim.parent, CLIP=str(tiny_clip), CAPTIONER="none", DEVICE="cpu")
    assert done.returncode == 0, done.stderr
    assert "frozen" in done.stdout
    records = json.loads((ucf / "out" / "ucf101" / "results.json").read_text())
    assert "a photo of a {}." in json.dumps(records)
