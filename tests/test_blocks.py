"""Texts without padding, temporal attention and the last block's one token, against their literal forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maxi.errors import MaxiError
from maxi.files import write_json
from maxi.models.blocks import FEW, Packed, across_frames, causal, each_row
from maxi.models.clip import load_clip
from maxi.models.video_clip import VideoCLIP, load_model

HEADS = 2


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def literal(q: Tensor, k: Tensor, v: Tensor, n_frames: int) -> Tensor:
    """Eq. 3 frame by frame and head by head, the root of d_k as in the released code, over neighbours that exist."""
    out = torch.zeros_like(q)
    d = q.shape[-1] // HEADS
    for row in range(len(q)):
        t = row % n_frames
        near = [row + i for i in (-1, 0, 1) if 0 <= t + i < n_frames]
        for h in range(HEADS):
            part = slice(h * d, (h + 1) * d)
            scores = sum(q[row, :, part] @ k[other, :, part].T for other in near) / len(near)
            out[row, :, part] = torch.softmax(scores / math.sqrt(d), -1) @ v[row, :, part]
    return out


@pytest.mark.parametrize("n_frames", [1, 2, 3, 6])
@pytest.mark.parametrize("length", [5, FEW + 1], ids=["products", "fused"])
def test_temporal_attention_is_equation_3(n_frames: int, length: int) -> None:
    q, k, v = (random(6, length, 8, seed=s) for s in range(3))
    found = across_frames(n_frames)(q, k, v, HEADS)
    torch.testing.assert_close(found, literal(q, k, v, n_frames), rtol=1e-5, atol=1e-5)
    if n_frames == 1:
        assert torch.equal(found, each_row(q, k, v, HEADS))


@torch.no_grad()
def test_temporal_blocks_of_a_model(tiny_clip: Path, tmp_path: Path) -> None:
    model = load_model(f"clip:{tiny_clip}")
    frames = random(2, 4, 3, 32, 32)
    plain, prints = model.encode_video(frames), model.backbone.fingerprint()
    still = frames[:, :1].expand(-1, 4, -1, -1, -1)
    one = model.encode_video(frames[:, :1])
    for n in (1, 2):
        model.backbone.image_blocks.temporal = n
        assert not torch.allclose(model.encode_video(frames), plain, atol=1e-4)
        assert model.backbone.fingerprint() != prints
        # A still picture has nothing to tell across frames, and one frame has no neighbours.
        torch.testing.assert_close(model.encode_video(still), one, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.encode_video(frames[:, :1]), one)
    model.save(tmp_path / "model")
    again = load_model(str(tmp_path / "model"))
    assert torch.equal(again.encode_video(frames), model.encode_video(frames))
    write_json(tmp_path / "model" / "maxi.json", {"backbone": "clip", "temporal_blocks": "two"})
    with pytest.raises(MaxiError, match="temporal_blocks is 'two'"):
        load_model(str(tmp_path / "model"))


def test_packing_leaves_no_padding_and_keeps_every_text_apart() -> None:
    lengths = torch.tensor([3, 5, 3, 1])
    ids = torch.arange(20).reshape(4, 5)
    packed = Packed.of(ids, lengths)
    assert packed.groups == ((1, 1), (2, 3), (1, 5))
    assert packed.ids.tolist() == [15, 0, 1, 2, 10, 11, 12, 5, 6, 7, 8, 9]
    assert packed.positions.tolist() == [0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]
    assert packed.order[packed.order.argsort()].tolist() == [0, 1, 2, 3]
    q, k, v = (random(12, 8, seed=s) for s in range(3))
    found = packed.causal(q, k, v, HEADS)
    alone = causal(q[None, 4:7], k[None, 4:7], v[None, 4:7], HEADS)[0]
    torch.testing.assert_close(found[4:7], alone)
    ends = packed.at_ends(q[packed.ends], k, v, HEADS)
    torch.testing.assert_close(ends, found[packed.ends])


def test_packed_padded_and_full_length_texts_are_the_same(tiny_clip: Path) -> None:
    """With the gradient of every parameter; transformers' own tower reads them padded to the full length."""
    clip = load_clip(str(tiny_clip))
    tokens = clip.tokenize(["a photo of a horse", "x", "riding", "x", "playing the guitar of it"])
    weights = random(5, 16)

    def gradient(packed: bool) -> tuple[Tensor, Tensor]:
        clip.zero_grad()
        clip.packed = packed
        z = clip.encode_text(tokens)
        (z * weights).sum().backward()
        found = [p.grad.flatten() for p in clip.parameters() if p.grad is not None]
        return z.detach(), torch.cat(found)

    (packed, its), (padded, other) = gradient(True), gradient(False)
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    assert (its - other).norm() <= 1e-5 * other.norm()
    full = torch.full((5, clip.max_length), clip.tokenizer.eos_token_id)
    full[:, : tokens["input_ids"].shape[1]] = tokens["input_ids"]
    with torch.no_grad():
        whole = clip.model.get_text_features(input_ids=full).pooler_output
    torch.testing.assert_close(packed, whole, rtol=1e-4, atol=1e-5)


def test_a_backbone_without_blocks_is_told(tmp_path: Path) -> None:
    from maxi.config import TrainConfig
    from maxi.training.loop import equip

    class Other(torch.nn.Module):
        kind, image_blocks = "other", None

    model = VideoCLIP(Other())
    equip(model, TrainConfig())
    for name in ("temporal_blocks", "recompute", "patch_dropout"):
        with pytest.raises(MaxiError, match=f"no transformer blocks; leave out train.{name}"):
            equip(model, TrainConfig(**{name: 1 if name != "patch_dropout" else 0.5}))


def test_more_temporal_blocks_than_there_are_is_told(tiny_clip: Path) -> None:
    from maxi.config import TrainConfig
    from maxi.training.loop import equip

    with pytest.raises(MaxiError, match="temporal_blocks is 3, but the image tower has 2 blocks"):
        equip(load_model(f"clip:{tiny_clip}"), TrainConfig(temporal_blocks=3))
