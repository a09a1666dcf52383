"""On a GPU: the same numbers as on the CPU, up to the rounding of other kernels. `pytest -m gpu` runs these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maxi.config import TrainConfig
from maxi.features.training_inputs import augmented
from maxi.models.video_clip import VideoCLIP, load_model
from test_loop import BAGS, clips, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
GPU = torch.device("cuda")
CONFIG = TrainConfig(
    batch_size=4, epochs=2, n_bag=2, n_frames=2, lr=0.1, eps=1.0, weight_decay=0, sigma=0.1
)
"""With this `eps` a step is proportional to its gradient, so that no rounding is made as large as a step."""


def trained(
    clip: Path, folder: Path, device: str, **changes: object
) -> tuple[VideoCLIP, list[float]]:
    model = load_model(f"clip:{clip}", device, sigma=CONFIG.sigma)
    outcome = train(model, BAGS, clips, CONFIG.model_copy(update=changes), folder=folder)
    return model, [outcome["first_loss"], outcome["last_loss"]]


@pytest.fixture(autouse=True)
def _without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_clips_are_augmented_alike() -> None:
    """Two passes of resizing round a value twice, and colour jitter once more: at most 3 of 255 levels."""
    frames = np.random.default_rng(0).integers(256, size=(4, 90, 120, 3), dtype=np.uint8)
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(frames).movedim(-1, 1).float(), 5, 1)
    frames = smooth.byte().movedim(1, -1).contiguous().numpy()
    for seed in range(8):
        ours, theirs = (
            augmented(64, frames, "v", seed=seed, epoch=0, device=torch.device(place)).cpu().int()
            for place in ("cuda", "cpu")
        )
        assert (ours - theirs).abs().max() <= 3
        assert (ours - theirs).abs().float().mean() < 0.5


def test_embeddings_are_alike(tiny_clip: Path) -> None:
    frames = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    z_v, z_t = [], []
    for place in ("cpu", "cuda"):
        model = load_model(f"clip:{tiny_clip}", place)
        with torch.inference_mode():
            z_v.append(model.encode_video(frames.to(place)).cpu())
            tokens = model.backbone.tokenize(["riding a horse", "playing guitar"])
            z_t.append(model.encode_text(tokens).cpu())
    torch.testing.assert_close(z_v[1], z_v[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(z_t[1], z_t[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"micro_batch": 1}, {"recompute": True}, {"patch_dropout": 0.5}, {"temporal_blocks": 1}],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_training_moves_the_weights_alike(
    changes: dict[str, object], tiny_clip: Path, tmp_path: Path
) -> None:
    ours, losses = trained(tiny_clip, tmp_path / "gpu", "cuda", **changes)
    theirs, expected = trained(tiny_clip, tmp_path / "cpu", "cpu", **changes)
    assert losses == pytest.approx(expected, rel=1e-3)
    frozen = dict(load_model(f"clip:{tiny_clip}").named_parameters())
    moved = difference = 0.0
    for (name, our), their in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        moved += (their - frozen[name]).detach().square().sum().item()
        difference += (our.cpu() - their).detach().square().sum().item()
    assert difference < 1e-4 * moved  # a hundredth of the way


def test_bfloat16_trains(tiny_clip: Path, tmp_path: Path) -> None:
    _, half = trained(tiny_clip, tmp_path / "half", "cuda", precision="bfloat16")
    _, whole = trained(tiny_clip, tmp_path / "whole", "cuda")
    assert half[0] == pytest.approx(whole[0], rel=0.1)
    assert half[1] < half[0]


def test_a_step_that_does_not_fit_is_taken_in_smaller_graphs(
    tiny_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, expected = trained(tiny_clip, tmp_path / "small", "cuda", micro_batch=1)
    encode = VideoCLIP.encode_video

    def hungry(self: VideoCLIP, frames: torch.Tensor, kept: torch.Tensor | None = None):
        if len(frames) > 1 and torch.is_grad_enabled():
            torch.empty(2**50, dtype=torch.uint8, device=GPU)  # more than any GPU has
        return encode(self, frames, kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoCLIP, "encode_video", hungry)
        _, losses = trained(tiny_clip, tmp_path / "large", "cuda", micro_batch=4)
    assert "out of memory: going on with graphs of 2 videos" in caplog.text
    assert losses == pytest.approx(expected, rel=1e-4)
