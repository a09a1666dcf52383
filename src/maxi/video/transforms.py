"""From decoded frames to the pixels a backbone reads: tensors in, tensors out, on the device where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = (1.0, 0.875, 0.75, 0.66)
"""Sides of the multi-scale crop as shares of the short side."""

LUMA = (0.299, 0.587, 0.114)


def eval_transform(frames: Tensor, size: int, *, resize_to: int | None = None) -> Tensor:
    """Resize the short side to `resize_to` (default: `size`) and crop the centre.

    uint8 (T, C, H, W) -> uint8 (T, C, size, size). Bicubic with antialiasing, within 1/255 of
    PIL's (2/255 for one value in 300,000 of pure noise); the long side and the crop offset round
    down, as in CLIP's image processor. The released evaluation resizes to 256 and crops 224.
    """
    short_to = resize_to or size
    height, width = frames.shape[-2:]
    short = min(height, width)
    frames = _resize(frames, int(short_to * height / short), int(short_to * width / short))
    top, left = (frames.shape[-2] - size) // 2, (frames.shape[-1] - size) // 2
    return frames[..., top : top + size, left : left + size].contiguous()


@dataclass(frozen=True, slots=True)
class Augment:
    """What one clip's augmentation is, decided once for all of its frames.

    `jitter` lists (operation, strength) in the order they apply; empty: the clip keeps its colours.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    grey: bool

    @classmethod
    def draw(
        cls,
        height: int,
        width: int,
        size: int,
        rng: np.random.Generator,
        scales: Sequence[float] = SCALES,
    ) -> Augment:
        """Draw one; every outcome takes the same number of draws from `rng`."""
        top, left, crop_height, crop_width = _draw_crop(height, width, size, rng, scales)
        flip, jitters, grey = rng.random(3) < (0.5, 0.8, 0.2)
        jitter = [
            ("brightness", rng.uniform(0.6, 1.4)),
            ("contrast", rng.uniform(0.6, 1.4)),
            ("saturation", rng.uniform(0.8, 1.2)),
            ("hue", rng.uniform(-0.1, 0.1)),
        ]
        ordered = tuple(jitter[i] for i in rng.permutation(len(jitter)))
        return cls(
            top, left, crop_height, crop_width, bool(flip), ordered if jitters else (), bool(grey)
        )

    def __call__(self, frames: Tensor, size: int) -> Tensor:
        """uint8 (T, 3, H, W) -> uint8 (T, 3, size, size)."""
        frames = frames[..., self.top : self.top + self.height, self.left : self.left + self.width]
        frames = _resize(frames, size, size)
        if self.flip:
            frames = frames.flip(-1)
        if not (self.jitter or self.grey):
            return frames
        # Resizing keeps decoded frames' memory order, channels last, in which each step below is several times slower.
        pixels = frames.contiguous().float().div_(255)
        for operation, strength in self.jitter:
            pixels = _jitter(pixels, operation, strength).clamp_(0, 1)
        if self.grey:
            pixels = _luma(pixels).expand_as(pixels)
        return (pixels * 255).round_().to(torch.uint8)


def train_transform(
    frames: Tensor, size: int, rng: np.random.Generator, scales: Sequence[float] = SCALES
) -> Tensor:
    """Multi-scale corner crop, flip, colour jitter and grey, the same for all frames of the clip.

    uint8 (T, 3, H, W) -> uint8 (T, 3, size, size); a pure function of `rng`. The crop is chosen on
    the geometry of a frame whose short side is 256 (at size 224), cut from the original pixels and
    resized once. The released code redraws the jitter for each frame, which flickers; here all
    frames of a clip share one.
    """
    return Augment.draw(frames.shape[-2], frames.shape[-1], size, rng, scales)(frames, size)


def normalise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (..., C, H, W) -> float32, (x / 255 - mean) / std for each channel."""
    shape = (len(mean), 1, 1)
    shift, scale = torch.tensor(mean).reshape(shape), torch.tensor(std).reshape(shape)
    return (frames.float() / 255 - shift.to(frames.device)) / scale.to(frames.device)


def shrink(frames: Tensor, short_side: int) -> Tensor:
    """uint8 (T, C, H, W) with the short side resized to `short_side`; smaller frames stay as they are."""
    before = frames.shape[-2], frames.shape[-1]
    after = shrunk_size(*before, short_side)
    return frames if after == before else _resize(frames, *after)


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after `shrink`."""
    short = min(height, width)
    if short <= short_side:
        return height, width
    return int(short_side * height / short), int(short_side * width / short)


def _resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, uint8 in and out.

    On the CPU this is Pillow's own algorithm. It exists there alone; elsewhere the two passes go through float, rounded
    between them as Pillow does: values may differ by 1/255, seldom by 2.
    """
    if frames.device.type == "cpu":
        return F.interpolate(frames, (height, width), mode="bicubic", antialias=True)
    return _resize_in_float(frames, height, width)


def _resize_in_float(frames: Tensor, height: int, width: int) -> Tensor:
    for size in ((frames.shape[-2], width), (height, width)):
        pixels = F.interpolate(frames.float(), size, mode="bicubic", antialias=True)
        frames = pixels.round_().clamp_(0, 255).to(torch.uint8)
    return frames


def _draw_crop(
    height: int, width: int, size: int, rng: np.random.Generator, scales: Sequence[float]
) -> tuple[int, int, int, int]:
    short_to = round(size * 256 / 224)
    sides = [int(short_to * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    pairs = [(i, j) for i in range(len(sides)) for j in range(len(sides)) if abs(i - j) <= 1]
    i, j = pairs[rng.integers(len(pairs))]
    to_pixels = min(height, width) / short_to
    crop_height = max(1, round(sides[i] * to_pixels))
    crop_width = max(1, round(sides[j] * to_pixels))
    down, right = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5)][rng.integers(5)]
    return (
        int(down * (height - crop_height)),
        int(right * (width - crop_width)),
        crop_height,
        crop_width,
    )


def _jitter(pixels: Tensor, operation: str, strength: float) -> Tensor:
    if operation == "brightness":
        return pixels * strength
    if operation == "hue":
        return _shift_hue(pixels, strength)
    # One grey level for the clip, not for each frame, keeps contrast from flickering.
    other = _luma(pixels).mean() if operation == "contrast" else _luma(pixels)
    return torch.lerp(other.expand_as(pixels), pixels, strength)


def _luma(pixels: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=pixels.device).reshape(3, 1, 1)
    return (pixels * weights).sum(-3, keepdim=True)


def _shift_hue(pixels: Tensor, turn: float) -> Tensor:
    """Turn the hue of HSV by `turn` (1 is the whole circle); value and saturation stay."""
    red, green, blue = pixels.unbind(-3)
    value, low = pixels.amax(-3), pixels.amin(-3)
    chroma = value - low
    safe = chroma.clamp_min(1e-12)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = (sextant + 6 * turn) % 6
    shares = torch.stack([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], -3)
    return torch.addcmul(low.unsqueeze(-3), chroma.unsqueeze(-3), shares.clamp_(0, 1))
