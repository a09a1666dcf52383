from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image

from maxi.features import training_inputs
from maxi.video.transforms import (
    Augment,
    _resize,
    _resize_in_float,
    eval_transform,
    normalise,
    shrink,
    shrunk_size,
    train_transform,
)


def noise(height: int, width: int, n_frames: int = 2) -> torch.Tensor:
    """Smooth and sharp content at once: noise at three scales."""
    rng = np.random.default_rng(height * 1000 + width)
    frames = rng.integers(0, 256, (n_frames, height, width, 3))
    frames[:, : height // 2] = frames[:, : height // 2, ::1].mean(2, keepdims=True)
    frames[:, :, : width // 3] = 255 * (frames[:, :, : width // 3] > 128)
    return torch.from_numpy(frames.astype(np.uint8)).permute(0, 3, 1, 2)


def pil_reference(frame: torch.Tensor, size: int, resize_to: int) -> torch.Tensor:
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    short, long = sorted(image.size)
    to_long = int(resize_to * long / short)
    wide = image.width >= image.height
    image = image.resize((to_long, resize_to) if wide else (resize_to, to_long), Image.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("height", "width", "size", "resize_to"),
    [
        (241, 321, 224, 256),
        (321, 241, 224, 224),
        (480, 853, 224, 256),
        (36, 47, 64, 64),  # up
        (47, 36, 64, 73),  # up, odd offset
        (64, 64, 64, 64),
        (99, 500, 32, 36),
    ],
)
def test_eval_transform_is_pils_bicubic(height, width, size, resize_to):
    frames = noise(height, width)
    ours = eval_transform(frames, size, resize_to=resize_to)
    assert ours.shape == (2, 3, size, size)
    assert ours.dtype == torch.uint8
    for mine, frame in zip(ours, frames, strict=True):
        difference = (mine.int() - pil_reference(frame, size, resize_to).int()).abs()
        assert difference.max() <= 2
        assert (difference > 1).float().mean() < 1e-5


def test_eval_transform_is_clips_image_processor():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 41}, crop_size={"height": 32, "width": 32}
    )
    for height, width in [(57, 91), (91, 57), (33, 40)]:
        frame = noise(height, width, 1)
        theirs = processor(Image.fromarray(frame[0].permute(1, 2, 0).numpy()), return_tensors="pt")
        ours = normalise(
            eval_transform(frame, 32, resize_to=41), processor.image_mean, processor.image_std
        )
        one_level = 1 / 255 / min(processor.image_std)
        assert (ours - theirs["pixel_values"]).abs().max() <= one_level * 1.001


@pytest.mark.parametrize(("height", "width"), [(256, 341), (64, 85), (300, 400)])
def test_other_devices_resize_through_float_as_the_cpu_does(height, width):
    frames = noise(241, 321)
    difference = _resize_in_float(frames, height, width).int() - _resize(frames, height, width)
    assert difference.abs().max() <= 2
    assert (difference.abs() > 1).float().mean() < 1e-4


def test_shrinking_never_enlarges():
    frames = noise(50, 70)
    assert torch.equal(shrink(frames, 50), frames)
    assert torch.equal(shrink(frames, 60), frames)
    assert shrink(frames, 40).shape[-2:] == shrunk_size(50, 70, 40) == (40, 56)
    assert torch.equal(shrink(frames, 40)[..., 8:48], eval_transform(frames, 40))


def test_frames_may_lie_channels_last_in_memory():
    frames = noise(50, 70)
    strided = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(eval_transform(strided, 32), eval_transform(frames, 32))


def test_normalise():
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1)
    out = normalise(frames, (0.5, 0.5, 0.1), (0.5, 0.25, 0.2))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, 2.0, 0.5]))


def test_crops_follow_the_multi_scale_corner_rule():
    rng = np.random.default_rng(0)
    sides = [256, 224, 192, 168]
    seen, places = set(), set()
    for _ in range(600):
        crop = Augment.draw(256, 340, 224, rng)
        i, j = sides.index(crop.height), sides.index(crop.width)
        assert abs(i - j) <= 1
        rest = (256 - crop.height, 340 - crop.width)
        corners = {(y, x) for y in (0, rest[0]) for x in (0, rest[1])}
        assert (crop.top, crop.left) in corners | {(rest[0] // 2, rest[1] // 2)}
        seen.add((i, j))
        places.add((crop.top == 0, crop.left == 0))
    assert len(seen) == 10
    assert len(places) == 4


@pytest.mark.parametrize(
    ("height", "width"), [(241, 321), (1080, 1920), (17, 9), (1, 1), (300, 20)]
)
@pytest.mark.parametrize("size", [32, 224])
def test_crops_stay_inside_any_frame(height, width, size):
    rng = np.random.default_rng(1)
    for _ in range(60):
        crop = Augment.draw(height, width, size, rng)
        assert crop.top >= 0
        assert crop.left >= 0
        assert 1 <= crop.height <= height - crop.top
        assert 1 <= crop.width <= width - crop.left


def test_shares_and_ranges_of_the_draws():
    rng = np.random.default_rng(2)
    draws = [Augment.draw(256, 256, 224, rng) for _ in range(3000)]
    assert np.mean([d.flip for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.grey for d in draws]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([bool(d.jitter) for d in draws]) == pytest.approx(0.8, abs=0.03)
    bounds = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2}
    for name, width in [*bounds.items(), ("hue", 0.1)]:
        values = np.array([dict(d.jitter)[name] for d in draws if d.jitter]) - (name in bounds)
        assert np.abs(values).max() <= width
        assert values.min() < -0.95 * width
        assert values.max() > 0.95 * width
    assert len({tuple(name for name, _ in d.jitter) for d in draws}) == 24 + 1


def test_train_transform_is_a_function_of_the_generator_alone():
    frames = noise(60, 90)
    one, two, other = (train_transform(frames, 48, np.random.default_rng(s)) for s in (5, 5, 6))
    assert one.shape == (2, 3, 48, 48)
    assert one.dtype == torch.uint8
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_every_frame_of_a_clip_is_changed_alike():
    still = noise(60, 90, 1).expand(4, -1, -1, -1)
    for seed in range(12):
        out = train_transform(still, 48, np.random.default_rng(seed))
        assert (out == out[:1]).all()


def plain(**changes) -> Augment:
    settings = {"top": 0, "left": 0, "height": 40, "width": 40, "flip": False}
    return Augment(**{**settings, "jitter": (), "grey": False, **changes})


def test_without_changes_a_crop_is_only_resized():
    frames = noise(40, 40)
    assert torch.equal(plain()(frames, 32), eval_transform(frames, 32))
    part = plain(top=3, left=7, height=30, width=30)(frames, 32)
    assert torch.equal(part, eval_transform(frames[..., 3:33, 7:37], 32))


def test_flip_and_grey():
    frames = noise(40, 40)
    resized = plain()(frames, 32)
    assert torch.equal(plain(flip=True)(frames, 32), resized.flip(-1))
    grey = plain(grey=True)(frames, 32)
    assert (grey == grey[:, :1]).all()
    expected = (resized * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1)
    assert (grey[:, 0] - expected).abs().max() <= 0.51


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1])
def test_hue_against_colorsys(turn):
    frames = noise(40, 40, 1)
    before, after = plain()(frames, 8), plain(jitter=(("hue", turn),))(frames, 8)
    for old, new in zip(before[0].flatten(1).T, after[0].flatten(1).T, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(old / 255).tolist())
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        assert (new / 255).tolist() == pytest.approx(expected, abs=0.51 / 255)


def test_brightness_contrast_and_saturation():
    frames = noise(40, 40)
    pixels = plain()(frames, 32) / 255
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, keepdim=True)
    expected = {
        "brightness": pixels * 1.3,
        "contrast": luma.mean() + 1.3 * (pixels - luma.mean()),
        "saturation": luma + 1.3 * (pixels - luma),
    }
    for name, value in expected.items():
        out = plain(jitter=((name, 1.3),))(frames, 32) / 255
        assert (out - value.clamp(0, 1)).abs().max() <= 0.51 / 255


def test_operations_apply_in_the_order_drawn():
    frames = noise(40, 40)
    steps = (("brightness", 1.4), ("contrast", 0.6))
    forth, back = plain(jitter=steps)(frames, 32), plain(jitter=steps[::-1])(frames, 32)
    assert not torch.equal(forth, back)


def test_a_device_without_room_leaves_a_clip_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(256, size=(2, 40, 50, 3), dtype=np.uint8)
    cpu = torch.device("cpu")
    expected = training_inputs.augmented(32, frames, "v", seed=0, epoch=0, device=cpu)
    transform, places = training_inputs.train_transform, []

    def full(images: torch.Tensor, *given: object) -> torch.Tensor:
        places.append(images.device.type)
        if images.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return transform(images, *given)

    monkeypatch.setattr(training_inputs, "train_transform", full)
    found = training_inputs.augmented(32, frames, "v", seed=0, epoch=0, device=torch.device("meta"))
    assert places == ["meta", "cpu"]
    assert torch.equal(found, expected)
