"""A plan comes from real steps, leaves nothing behind, and adds them up as training does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from maxi.cli import main
from maxi.progress import silent
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages import plan as planning
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.plan import Times, lines_of, of_steps, of_training
from maxi.stages.train import train_run
from maxi.training.loop import Training

SETTINGS = [
    "match.n_frames=2",
    "train.n_frames=2",
    "n_bag=4",
    "batch_size=2",
    "epochs=3",
    "workers=1",
    "captioner=none",
]
TIMES = Times(start=10, first=5, decoding=3, ready=1, checkpoint=2, end=4)


@pytest.fixture(scope="module")
def run(videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: Any) -> Run:
    """A run that has bags and is not trained."""
    folder = tmp_path_factory.mktemp("plans") / "mine"
    config = load_config(None, SETTINGS, backbone=f"clip:{tiny_clip}")
    with open_job(folder, config, silent) as job:
        start_run(job, actions.read_text().splitlines())
        index_run(job, str(videos))
        for stage in (match_run, expand_run, caption_run, bag_run):
            stage(job)
    return Run(folder)


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    shutil.copytree(run.folder, tmp_path / "copy")
    return Run(tmp_path / "copy")


def planned(run: Run, *words: str) -> dict[str, Any]:
    done = invoked(run, "--json", *words)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def invoked(run: Run, *words: str) -> Result:
    return CliRunner().invoke(main, ["-q", "plan", str(run.folder), *words])


def files(folder: Path) -> dict[str, int]:
    return {
        str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"
    }


def test_the_first_step_and_the_epochs_that_decode_count_apart() -> None:
    assert of_steps(5, 3, 1, n_steps=1, n_decoding=1) == 5
    assert of_steps(5, 3, 1, n_steps=4, n_decoding=4) == 5 + 3 * 3
    assert of_steps(5, 3, 1, n_steps=100, n_decoding=10) == 5 + 9 * 3 + 90
    assert of_steps(5, 3, 1, n_steps=100, n_decoding=12.5) == 5 + 11.5 * 3 + 87.5


@pytest.mark.parametrize(
    ("every", "n_checkpoints"),
    [(0, 100), (1, 100), (1.22, 100), (1.3, 50), (50, 3), (1e9, 1)],
)
def test_checkpoints_come_after_whole_steps_and_at_the_end(
    every: float, n_checkpoints: int
) -> None:
    """100 steps of 1.22 seconds."""
    found = of_training(TIMES, 122, n_steps=100, checkpoint_seconds=every)
    assert found == 10 + 122 + n_checkpoints * 2 + 4


def test_a_plan_trains_a_few_real_steps_and_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def watched(*given: Any, **options: Any) -> Training:
        calls.append(options)
        return Training(*given, **options)

    monkeypatch.setattr(planning, "Training", watched)
    before = files(run.folder.parent)
    left = run.folder / ".plan" / "ready" / "checkpoints"  # by a plan that was killed
    left.mkdir(parents=True)
    found = planned(run, "-s", "n_bag=2", "-s", "train.wandb=actions")
    assert files(run.folder.parent) == before
    assert not (run.folder / ".plan").exists()
    assert len(calls) == 2
    assert all(call["folder"].parent == run.folder.resolve() / ".plan" for call in calls)
    assert (found["n_steps"], found["videos"]) == (9, 7)  # 3 pairs of 7 videos, 3 epochs
    assert found["n_decoding"] == 3  # three epochs of so few clips come from one decoding
    assert found["seconds"] > 0
    assert 0 <= found["data"] <= found["step"]
    assert found["flop"] == 0
    assert found["conditions"]["train"]["n_bag"] == 2


@pytest.mark.parametrize("trainable", ["all", pytest.param("head", marks=pytest.mark.slow)])
def test_disk_and_memory_are_those_of_a_training(trainable: str, copy: Run) -> None:
    words = ["-s", f"trainable={trainable}", "-s", "n_views=2"]
    found = planned(copy, *words)
    assert found["memory"]["process"] > 1e8  # torch alone is more
    if sys.platform == "linux":
        assert 1e7 < found["memory"]["decoders"] < 1e9  # one process, and not what its parent holds
    sizes = found["disk"]
    assert sizes["peak"] >= sizes["stays"] > sizes["checkpoint"] + sizes["model"]
    config = load_config(copy.config, words[1::2])
    before = size(copy.folder)
    with open_job(copy.folder, config, silent) as job:
        train_run(job)
    grown = size(copy.folder) - before
    assert sizes["stays"] == pytest.approx(grown, rel=0.1)
    # Only what is left to do is planned: the features are there now.
    if trainable == "head":
        assert planned(copy, *words)["disk"]["stays"] < sizes["stays"]


def test_fused_attention_on_the_cpu_is_counted() -> None:
    """As two matrix multiplications (B, H, L, D) x (B, H, D, L), and five on the way back."""
    q = torch.randn(2, 4, 100, 16, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=planning.ATTENTION_ON_CPU) as counter:
        functional.scaled_dot_product_attention(q, q, q).sum().backward()
    assert counter.get_total_flops() == 7 * 2 * 2 * 4 * 100 * 100 * 16


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_a_training_of_one_step_can_be_planned(run: Run) -> None:
    found = planned(run, "-s", "epochs=1", "-s", "batch_size=8")
    assert (found["n_steps"], found["n_decoding"]) == (1, 1)


@pytest.mark.slow
def test_operations_are_those_of_both_towers(run: Run) -> None:
    """Twice the frames are nearly twice the operations of the images; a frozen tower is not gone back through."""
    flop = {
        frames: planned(run, "--tflops", "1", "-s", f"train.n_frames={frames}")["flop"]
        for frames in (2, 4)
    }
    assert 1.2 * flop[2] < flop[4] < 2 * flop[2]
    text = planned(run, "--tflops", "1", "-s", "trainable=text")["flop"]
    assert text < flop[2]


def test_other_hardware_is_spoken_of_only_as_an_assumption(run: Run) -> None:
    plain, assumed = (invoked(run, *words).stdout for words in ([], ["--tflops", "40"]))
    assert "TFLOP" not in plain
    assert "9 steps on this machine" in plain
    assert "at an assumed 40 TFLOP/s sustained: " in assumed
    assert "h of computing; assumed, not measured, decoding not counted" in assumed


def test_a_disk_that_is_too_small_is_told(run: Run) -> None:
    found = planned(run)
    assert "too small" not in "\n".join(lines_of(found))
    found["disk"]["free"] = found["disk"]["peak"] - 1
    assert "the disk is too small: make room before you train" in list(lines_of(found))


def test_a_busy_machine_and_a_gpu_are_told(run: Run) -> None:
    found = planned(run)
    found["conditions"] |= {"load": 7.5, "cores": 2}
    found["memory"]["gpu"] = 3_000_000_000
    text = "\n".join(lines_of(found))
    assert "other programs kept this machine busy (load 7.5)" in text
    assert "3.0 GB on the GPU" in text
    assert "rounds" not in text
    found["conditions"]["rounds"] = 2
    assert "`maxi adapt` trains 2 models" in "\n".join(lines_of(found))


def test_a_plan_of_a_training_that_would_break_is_refused(run: Run) -> None:
    before = files(run.folder.parent)
    refused = invoked(run, "-s", "lr=1e30")
    assert refused.exit_code == 1
    assert "step 0: the weights or their gradients are not finite" in refused.output
    assert files(run.folder.parent) == before


def test_without_bags_it_says_what_to_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(run.config.read_bytes())
    (tmp_path / "actions.txt").write_bytes(run.actions.read_bytes())
    done = invoked(Run(tmp_path))
    assert done.exit_code == 1
    assert "bags.jsonl does not exist; run `maxi bag` first" in done.stderr


@pytest.mark.slow
def test_from_the_cache_a_plan_reads_and_fills_nothing(copy: Run) -> None:
    with_cache = ["-s", "cache.format=raw"]
    told = invoked(copy, *with_cache)
    assert told.exit_code == 1
    assert "7 of 7 videos are not in the cache that training reads; run `maxi cache" in told.output
    assert not copy.frames.exists()
    done = CliRunner().invoke(main, ["-q", "cache", str(copy.folder)])
    assert done.exit_code == 0, done.output
    found = planned(copy)
    assert found["n_decoding"] == found["n_steps"] == 9


@pytest.mark.slow
def test_held_out_videos_and_checkpoints_that_are_kept_count(run: Run) -> None:
    words = ["-s", "cache.format=none", "-s", "checkpoint_seconds=0"]
    plain = planned(run, *words, "-s", "keep_last=1")
    more = planned(run, *words, "-s", "keep_last=3", "-s", "holdout=0.3", "-s", "curriculum=0.5")
    assert more["n_steps"] < plain["n_steps"]  # five videos, at first fewer
    weights = plain["disk"]["model"]
    grown = more["disk"]["stays"] - plain["disk"]["stays"]
    assert grown == pytest.approx(2 * plain["disk"]["checkpoint"] + weights, rel=0.2)
