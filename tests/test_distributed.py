"""One, two and four processes on the CPU train the same model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from contrast import ROUNDING, SIGMA
from maxi.progress import silent
from maxi.run import Run, meta_path
from maxi.stages.adapt import adapt
from maxi.training.distributed import World
from test_adapt import settings

STORING = 4 * 2**-24  # two steps of two trainings, each of which rounds every weight to float32


@pytest.fixture(scope="module")
def finished(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run of one process: eight videos in ragged batches of graphs of two."""
    out = tmp_path_factory.mktemp("runs") / "one"
    sizes = "batch_size=8", "micro_batch=2"
    # With so large an `eps` a step is proportional to the gradient. AdamW's own first steps have the size of the
    # learning rate whatever the gradient's, so where that is nothing but rounding, rounding would decide their sign.
    steps = "eps=1", "lr=0.1", "weight_decay=0", f"sigma={SIGMA}"
    config = settings(tiny_clip, *sizes, *steps, "learn_sigma=true", "distill=0.5", "alpha=1")
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
        timeout=1800,
    )


def whole(model: Path) -> Tensor:
    """All weights of a saved model, one behind the other."""
    tensors = load_file(model / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def losses(run: Run) -> list[float]:
    lines = (run.folder / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_several_processes_train_the_model_of_one(
    n: int, finished: Run, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    for path in (run.model, run.folder / "checkpoints"):
        shutil.rmtree(path)
    for path in (run.training, meta_path(run.training), run.folder / "train.jsonl"):
        path.unlink()
    done = train_together(run, n)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the adapted model is") == 1
    assert losses(run) == pytest.approx(losses(finished), rel=ROUNDING)
    start, one, many = (whole(folder) for folder in (tiny_clip, finished.model, run.model))
    moved, stored = (one - start).norm(), one.norm()
    assert moved > 1000 * STORING * stored  # otherwise there would be nothing to compare
    assert (many - one).norm() <= ROUNDING * moved + STORING * stored
    assert run.training.is_file()


@pytest.mark.slow
def test_too_small_batches_are_refused(finished: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    done = train_together(run, 3, "-s", "batch_size=2")
    assert done.returncode != 0
    assert "3 processes cannot share batches of 2 videos" in done.stderr


def test_alone_nothing_is_exchanged() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    whole, own = World().gather(rows)
    assert torch.equal(whole, rows)
    assert own == slice(0, 3)
    assert World(1, 2).part([1, 2, 3, 4, 5]) == [4, 5]
    assert [r for k in range(4) for r in World(k, 4).part(list(range(10)))] == list(range(10))
