"""One, two and four processes on the CPU train the same model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maxi.distributed import World
from maxi.pipeline import adapt
from maxi.progress import silent
from maxi.runs import Run, meta_path
from test_pipeline import settings


@pytest.fixture(scope="module")
def finished(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run of one process: eight videos in ragged batches of graphs of two."""
    out = tmp_path_factory.mktemp("runs") / "one"
    sizes = "batch_size=8", "micro_batch=2"
    config = settings(tiny_clip, *sizes, "learn_sigma=true", "distill=0.5", "alpha=1")
    return adapt(str(videos), actions, out, config, progress=silent)


def train_together(run: Run, n: int, *more: str) -> subprocess.CompletedProcess[str]:
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={n}",
    ]
    return subprocess.run(
        [*torchrun, "-m", "maxi", "-q", "train", str(run.folder), *more],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )


def losses(run: Run) -> list[float]:
    lines = (run.folder / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_several_processes_train_the_model_of_one(n: int, finished: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    for path in (run.model, run.folder / "checkpoints"):
        shutil.rmtree(path)
    for path in (run.training, meta_path(run.training), run.folder / "train.jsonl"):
        path.unlink()
    done = train_together(run, n)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the adapted model is") == 1
    assert losses(run) == pytest.approx(losses(finished), rel=1e-4)
    one = load_file(finished.model / "model.safetensors")
    many = load_file(run.model / "model.safetensors")
    assert one.keys() == many.keys()
    # Keys have no gradient through their bias: AdamW makes steps of its rounding.
    for name, tensor in ((n, t) for n, t in one.items() if not n.endswith("k_proj.bias")):
        torch.testing.assert_close(many[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert run.training.is_file()


@pytest.mark.slow
def test_too_small_batches_are_refused(finished: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    done = train_together(run, 3, "-s", "batch_size=2")
    assert done.returncode != 0
    assert "3 processes cannot share batches of 1 videos" in done.stderr


def test_alone_nothing_is_exchanged() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    whole, own = World().gather(rows)
    assert torch.equal(whole, rows)
    assert own == slice(0, 3)
    assert World(1, 2).part([1, 2, 3, 4, 5]) == [4, 5]
    assert [r for k in range(4) for r in World(k, 4).part(list(range(10)))] == list(range(10))
