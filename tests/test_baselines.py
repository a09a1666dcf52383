"""Baselines: what makes each one that method, and that all are trained, resumed and measured alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maxi.baselines import runs
from maxi.baselines.baseline import Baseline
from maxi.baselines.table import BASELINES
from maxi.baselines.training import train_baseline
from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.features.training_inputs import augmented
from maxi.models.blocks import each_row, run
from maxi.models.video_clip import load_model
from maxi.progress import silent
from maxi.records import Bag, Video, read_jsonl
from maxi.settings import load_config
from maxi.stages.index import index_run, start_run
from maxi.stages.job import open_job
from maxi.training.schedule import Course

NAMES = ["playing guitar", "riding a horse", "high jump"]
CPU = torch.device("cpu")
CONFIG = TrainConfig(
    objective="cross_entropy",
    batch_size=4,
    epochs=2,
    n_frames=3,
    lr=1e-2,
    sigma=0.1,
    checkpoint_seconds=0,
)


def made(kind: str, clip: Path) -> Baseline:
    torch.manual_seed(0)
    phrases = {"playing guitar": ("the person playing",)}
    return BASELINES[kind](load_model(f"clip:{clip}"), ["a photo of {}."], phrases).eval()


def pixels() -> Tensor:
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def train(baseline: Baseline, folder: Path, *, epochs: int = 2) -> None:
    bags = [Bag(f"v{i}", NAMES[i % 2], ()) for i in range(8)]
    config = CONFIG.model_copy(update={"epochs": epochs})
    course = Course(bags, config, names=NAMES)
    rng = np.random.default_rng(0)
    frames = {bag.video: rng.integers(256, size=(3, 40, 48, 3), dtype=np.uint8) for bag in bags}

    def batches(steps):
        for step in steps:
            clips = [
                augmented(32, frames[b.video], b.video, seed=0, epoch=0, device=CPU)
                for b in step.bags
            ]
            yield step, torch.stack(clips)

    train_baseline(baseline, course, batches, folder, "key", silent)


@pytest.mark.parametrize("kind", BASELINES)
def test_cosines_are_of_videos_and_names(kind: str, tiny_clip: Path) -> None:
    baseline = made(kind, tiny_clip)
    with torch.inference_mode():
        cosines = baseline.cosines(baseline.encode_video(pixels()), baseline.encode_names(NAMES))
    assert cosines.shape == (2, 3)
    assert float(cosines.abs().max()) <= 1.0001


@pytest.mark.parametrize("kind", BASELINES)
def test_what_learns_moves_and_nothing_else(kind: str, tiny_clip: Path, tmp_path: Path) -> None:
    baseline = made(kind, tiny_clip)
    before = {name: value.clone() for name, value in baseline.state_dict().items()}
    train(baseline, tmp_path)
    moved = {n for n, v in baseline.state_dict().items() if not torch.equal(v, before[n])}
    towers = {"visual" if "vision" in n or "visual" in n else "text" for n in moved if "clip." in n}
    expected: dict[str, set[str]] = {"frozen": set(), "a5": set()}
    expected |= {"vifi_image": {"visual"}, "text4vis": {"visual"}, "vifi_text": {"text"}}
    assert towers == expected.get(kind, {"visual", "text"})
    added = {n.split(".")[0] for n in moved} - {"clip"}
    assert bool(added) == (kind in ("action_clip", "x_clip", "a5", "text4vis"))


@pytest.mark.parametrize("kind", ["action_clip", "text4vis", "x_clip"])
def test_the_order_of_frames_counts(kind: str, tiny_clip: Path) -> None:
    baseline, plain = made(kind, tiny_clip), made("vifi_clip", tiny_clip)
    for parameter in baseline.temporal.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # as training might leave it
    with torch.inference_mode():
        forward, back = (baseline.encode_video(p) for p in (pixels(), pixels().flip(1)))
        assert not torch.allclose(forward, back, atol=1e-4)
        forward, back = (plain.encode_video(p) for p in (pixels(), pixels().flip(1)))
        assert torch.allclose(forward, back, atol=1e-5)


def test_in_x_clip_a_frame_hears_of_the_others_and_a_name_sees_the_video(tiny_clip: Path) -> None:
    baseline = made("x_clip", tiny_clip)
    other = pixels()
    other[:, 2] = -other[:, 2]
    tower = baseline.towers.model.vision_model
    with torch.inference_mode():
        # Before the first block no frame knows more than its place; after it, class tokens have seen their frames.
        heard = [
            baseline.messages[1](
                run([tower.encoder.layers[0]], tower.embeddings(p.flatten(0, 1)), each_row), 3
            ).unflatten(0, (2, 3))[:, 0]
            for p in (pixels(), other)
        ]
        assert not torch.allclose(*heard, atol=1e-5)
        videos, names = baseline.encode_video(pixels()), baseline.encode_names(NAMES)
        swapped = torch.cat([videos[:, :1], videos[:, 1:].flip(0)], 1)
        assert not torch.allclose(
            baseline.cosines(videos, names), baseline.cosines(swapped, names), atol=1e-6
        )


def test_in_text4vis_the_classifier_does_not_move(tiny_clip: Path, tmp_path: Path) -> None:
    baseline = made("text4vis", tiny_clip)
    with torch.inference_mode():
        before = baseline.encode_names(NAMES)
    train(baseline, tmp_path)
    with torch.inference_mode():
        assert torch.equal(baseline.encode_names(NAMES), before)


def test_in_a5_only_the_prompt_moves(tiny_clip: Path, tmp_path: Path) -> None:
    baseline = made("a5", tiny_clip)
    assert sorted(baseline.learning()) == ["after", "before"]
    train(baseline, tmp_path)
    frozen = made("vifi_clip", tiny_clip)
    with torch.inference_mode():
        ours, theirs = (model.encode_video(pixels()) for model in (baseline, frozen))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        long = baseline.encode_names(["playing guitar " * 40, "riding a horse"])
    assert bool(torch.isfinite(long).all())


def test_descriptions_stand_beside_the_name(tiny_clip: Path) -> None:
    described, plain = made("descriptions", tiny_clip), made("vifi_clip", tiny_clip)
    with torch.inference_mode():
        ours, theirs = described.encode_names(NAMES), plain.encode_names(NAMES)
    assert not torch.allclose(ours[0], theirs[0], atol=1e-4)
    assert torch.allclose(ours[1:], theirs[1:], atol=1e-5)


def test_an_untrained_encoder_changes_nothing(tiny_clip: Path) -> None:
    plain = made("vifi_clip", tiny_clip)
    with torch.inference_mode():
        for kind in ("action_clip", "text4vis"):
            ours = made(kind, tiny_clip).encode_video(pixels())
            assert torch.allclose(ours, plain.encode_video(pixels()), atol=1e-5)


def test_an_interrupted_training_comes_to_the_same_weights(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = made("x_clip", tiny_clip), made("x_clip", tiny_clip)
    train(whole, tmp_path / "whole")
    calls = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("maxi.baselines.training.check_finite", stop)
        with pytest.raises(KeyboardInterrupt):
            train(broken, tmp_path / "broken")
    again = made("x_clip", tiny_clip)
    train(again, tmp_path / "broken")
    with monkeypatch.context() as patch:  # what is trained takes no step more
        patch.setattr("maxi.baselines.training.check_finite", stop)
        train(made("x_clip", tiny_clip), tmp_path / "broken")
    assert len(calls) == 3
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_baseline_in_a_run(videos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    config = load_config(
        None,
        ["epochs=1", "batch_size=4", "train.n_frames=2", "eval.n_frames=2"],
        backbone=f"clip:{tiny_clip}",
    )
    scores = []
    for _ in range(2):
        with open_job(tmp_path / "run", config, silent) as job:
            start_run(job, NAMES)
            index_run(job, str(videos))
            manifest = read_jsonl(job.run.manifest, Video)
            truth = {video.id: str(video.label) for video in manifest}
            baseline = runs.trained(job, "x_clip", ["swimming"], truth)
            kept, table = runs.scores_of(job, baseline, manifest, [*NAMES, "swimming"])
        assert len(kept) == 8
        scores.append(table)
    assert scores[0].shape == (8, 4)
    assert (scores[0] == scores[1]).all()


def test_a_backbone_without_towers_is_told(tmp_path: Path) -> None:
    config = load_config(backbone="objects")
    with open_job(tmp_path / "run", config, silent) as job:
        start_run(job, NAMES)
        with pytest.raises(MaxiError, match=r"baselines need the two towers of a CLIP.*clip:"):
            runs.trained(job, "vifi_clip", [], {})
