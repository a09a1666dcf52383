"""The gradient of a whole batch, whatever the graphs, the processes and the savings that it is computed with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from contrast import ROUNDING, SIGMA, N, gradient
from maxi.config import TrainConfig
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.training.batches import kept_patches
from maxi.training.gradients import resolve_precision

CONFIG = TrainConfig(n_bag=3, learn_sigma=True)


@pytest.fixture
def model(tiny_clip: Path) -> VideoCLIP:
    return load_model(f"clip:{tiny_clip}", sigma=SIGMA)


def far(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The norm of the difference over the gradient's norm."""
    assert found.keys() == expected.keys()
    whole = torch.cat([t.flatten() for t in expected.values()])
    other = torch.cat([found[n].flatten() for n in expected])
    return float((other - whole).norm() / whole.norm())


@pytest.mark.parametrize(
    "micro",
    [pytest.param(1, marks=pytest.mark.slow), 2, 3, pytest.param(5, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "update",
    [
        {},
        {"trainable": "visual"},
        {"trainable": "text"},
        {"objective": "mil_nce_outside", "contrast": 3, "text_to_video": True},
        {"objective": "cross_entropy"},
        {"temporal_blocks": 1},
        {"patch_dropout": 0.5},
    ],
    ids=str,
)
def test_graphs_of_any_size_have_the_gradient_of_one(
    micro: int, update: dict[str, object], model: VideoCLIP
) -> None:
    config = CONFIG.model_copy(update=update)
    model.backbone.image_blocks.temporal = config.temporal_blocks
    loss, whole = gradient(model, N, config)
    same, found = gradient(model, micro, config)
    assert same == pytest.approx(loss, rel=ROUNDING)
    assert far(found, whole) <= ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize(("n", "refused"), [(2, "back"), (4, "forth")])
def test_processes_together_have_the_gradient_of_one(
    n: int, refused: str, model: VideoCLIP, tiny_clip: Path, tmp_path: Path
) -> None:
    """Also when the first of them ran out of memory: then all take smaller graphs."""
    loss, whole = gradient(model, N, CONFIG)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script, out = Path(__file__).with_name("contrast.py"), tmp_path / "gradient.safetensors"
    done = subprocess.run(
        [*torchrun, f"--nproc-per-node={n}", str(script), str(tiny_clip), str(out), refused],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    found = load_file(out)
    assert float(found.pop("loss")) == pytest.approx(loss, rel=ROUNDING)
    assert far(found, whole) <= ROUNDING


def test_recomputing_blocks_changes_nothing(model: VideoCLIP) -> None:
    loss, expected = gradient(model, 3, CONFIG)
    model.backbone.image_blocks.recompute = True
    same, found = gradient(model, 3, CONFIG)
    assert same == loss
    assert far(found, expected) == 0


@pytest.mark.slow
def test_a_compiled_image_encoder_has_the_same_gradient(
    model: VideoCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through dynamo and autograd tracing; the code generator needs half a minute and is left out."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compiled(f, backend="aot_eager"))
    loss, expected = gradient(model, 3, CONFIG)
    same, found = gradient(model, 3, CONFIG.model_copy(update={"compile": True}))
    assert same == pytest.approx(loss, rel=ROUNDING)
    assert far(found, expected) <= ROUNDING


def test_bfloat16_is_near(model: VideoCLIP) -> None:
    loss, expected = gradient(model, N, CONFIG)
    near, found = gradient(model, N, CONFIG.model_copy(update={"precision": "bfloat16"}))
    assert near == pytest.approx(loss, rel=0.02)
    assert all(t.dtype == torch.float32 for t in found.values())
    assert far(found, expected) < 0.1


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_where_the_processor_has_it(
    able: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == ("bfloat16" if able else "float32")
    assert resolve_precision("float32", cpu) == "float32"
    assert resolve_precision("bfloat16", cpu) == "bfloat16"
    assert ("does not compute in bfloat16" in caplog.text) == (not able)


def test_patches_that_are_kept_are_a_draw_of_seed_epoch_and_video(model: VideoCLIP) -> None:
    kept = kept_patches(["a", "b"], 3, 16, 0.75, 0)
    assert kept.shape == (2, 4)
    assert torch.equal(kept[1:], kept_patches(["b"], 3, 16, 0.75, 0))
    assert not torch.equal(kept[:1], kept_patches(["a"], 4, 16, 0.75, 0))
    assert all(len(np.unique(row)) == 4 for row in kept.numpy())
    assert kept_patches(["a"], 0, 16, 0.999, 0).shape == (1, 1)
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    every = torch.arange(16).expand(2, -1)
    with torch.no_grad():
        whole = model.encode_video(frames)
        torch.testing.assert_close(model.encode_video(frames, every), whole)
        less = model.encode_video(frames, kept)
    assert not torch.allclose(less, whole, atol=1e-3)


def test_distillation_pulls_towards_the_frozen_model(model: VideoCLIP, tiny_clip: Path) -> None:
    config = CONFIG.model_copy(update={"distill": 2.0})
    plain, _ = gradient(model, N, CONFIG)
    same, _ = gradient(model, N, config, frozen=load_model(f"clip:{tiny_clip}", sigma=SIGMA))
    assert same == pytest.approx(plain, abs=ROUNDING), "nothing has drifted yet"
    frozen = load_model(f"clip:{tiny_clip}", sigma=SIGMA)
    with torch.no_grad():
        model.backbone.model.visual_projection.weight.add_(0.1)
    moved, of_moved = gradient(model, N, CONFIG)
    pulled, whole = gradient(model, N, config, frozen=frozen)
    assert pulled > moved + 1e-3
    assert far(whole, of_moved) > 1e-3
    chunked, found = gradient(model, 2, config, frozen=frozen)
    assert chunked == pytest.approx(pulled, rel=ROUNDING)
    assert far(found, whole) <= ROUNDING
