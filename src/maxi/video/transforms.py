"""Turn decoded frames into the pixels that a backbone reads; every result stays on the device of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = (1.0, 0.875, 0.75, 0.66)
"""Sides of the multi-scale crop, as shares of the short side."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level."""


def eval_transform(
    frames: Tensor, size: int, *, resize_to: int | None = None, place: float = 0.5
) -> Tensor:
    """Resize the short side to `resize_to` (default: `size`) and crop the centre, or at another place.

    uint8 (T, C, H, W) -> uint8 (T, C, size, size). `place` is the share of the way along the longer side. Resizing is
    bicubic with antialiasing and differs from PIL's by at most 1/255 (by 2/255 for one value in 300,000 of pure noise).
    The long side and the crop's offset are rounded down, as in CLIP's image processor. The released evaluation resizes
    to 256 and crops 224.
    """
    short_to = resize_to or size
    height, width = frames.shape[-2:]
    short = min(height, width)
    frames = _resize(frames, int(short_to * height / short), int(short_to * width / short))
    down, right = (place, 0.5) if height > width else (0.5, place)
    top, left = int((frames.shape[-2] - size) * down), int((frames.shape[-1] - size) * right)
    return frames[..., top : top + size, left : left + size].contiguous()


@dataclass(frozen=True, slots=True)
class Augment:
    """The augmentation of one clip, which is decided once and is the same for all of its frames.

    The crop is in pixels. `jitter` lists (operation, strength) in the order in which they apply; where
    it is empty, the clip keeps its colours.
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
        """Draw an augmentation at random; whatever comes out, the same number of draws is taken from `rng`."""
        top, left, crop_height, crop_width = _draw_crop(height, width, size, rng, scales)
        flip, with_jitter, grey = rng.random(3) < (0.5, 0.8, 0.2)
        operations = [
            ("brightness", rng.uniform(0.6, 1.4)),
            ("contrast", rng.uniform(0.6, 1.4)),
            ("saturation", rng.uniform(0.8, 1.2)),
            ("hue", rng.uniform(-0.1, 0.1)),
        ]
        shuffled = tuple(operations[i] for i in rng.permutation(len(operations)))
        jitter = shuffled if with_jitter else ()
        return cls(top, left, crop_height, crop_width, bool(flip), jitter, bool(grey))

    def __call__(self, frames: Tensor, size: int) -> Tensor:
        """Augment the frames of a clip: uint8 (T, 3, H, W) -> uint8 (T, 3, size, size)."""
        frames = frames[..., self.top : self.top + self.height, self.left : self.left + self.width]
        frames = _resize(frames, size, size)
        if self.flip:
            frames = frames.flip(-1)
        if not (self.jitter or self.grey):
            return frames
        # Resized frames still lie in memory with channels last, in which each step below is several times slower.
        pixels = frames.contiguous().float().div_(255)
        for operation, strength in self.jitter:
            pixels = _jitter(pixels, operation, strength).clamp_(0, 1)
        if self.grey:
            pixels = _luma(pixels).expand_as(pixels)
        return (pixels * 255).round_().to(torch.uint8)


def train_transform(
    frames: Tensor, size: int, rng: np.random.Generator, scales: Sequence[float] = SCALES
) -> Tensor:
    """Augment a clip by a multi-scale corner crop, a flip, colour jitter and grey, the same for all of its frames.

    uint8 (T, 3, H, W) -> uint8 (T, 3, size, size); a pure function of `rng`. The crop is chosen as if
    the short side of the frame were 256 (at size 224), cut from the original pixels and resized once.
    The released code draws the jitter anew for each frame, which flickers; here all frames share one.
    """
    return Augment.draw(frames.shape[-2], frames.shape[-1], size, rng, scales)(frames, size)


def normalise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (frames / 255 - mean) / std for each channel: uint8 (..., C, H, W) -> float32 of the same shape."""
    shape = (len(mean), 1, 1)
    shift, scale = torch.tensor(mean).reshape(shape), torch.tensor(std).reshape(shape)
    return (frames.float() / 255 - shift.to(frames.device)) / scale.to(frames.device)


def shrink(frames: Tensor, short_side: int) -> Tensor:
    """Resize the short side of uint8 (T, C, H, W) to `short_side`; smaller frames are returned as they are."""
    size = frames.shape[-2], frames.shape[-1]
    new_size = shrunk_size(*size, short_side)
    return frames if new_size == size else _resize(frames, *new_size)


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return height and width after `shrink`."""
    short = min(height, width)
    if short <= short_side:
        return height, width
    return int(short_side * height / short), int(short_side * width / short)


def _resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 frames (T, C, H, W), bicubic with antialiasing; the result is uint8 too.

    On the CPU, PyTorch uses Pillow's own algorithm. Other devices lack it: there the two passes are made in float and
    rounded between them, as Pillow does, so that values may differ by 1/255, seldom by 2/255.
    """
    if frames.device.type == "cpu":
        return F.interpolate(frames, (height, width), mode="bicubic", antialias=True)
    return _resize_in_float(frames, height, width)


def _resize_in_float(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 frames on any device: first the width, then the height."""
    for size in ((frames.shape[-2], width), (height, width)):
        pixels = F.interpolate(frames.float(), size, mode="bicubic", antialias=True)
        frames = pixels.round_().clamp_(0, 255).to(torch.uint8)
    return frames


def _draw_crop(
    height: int, width: int, size: int, rng: np.random.Generator, scales: Sequence[float]
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop in pixels, at a corner or in the centre, its sides of like scales."""
    short_to = round(size * 256 / 224)
    sides = [int(short_to * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    pairs = [(i, j) for i in range(len(sides)) for j in range(len(sides)) if abs(i - j) <= 1]
    i, j = pairs[rng.integers(len(pairs))]
    to_pixels = min(height, width) / short_to
    crop_height = max(1, round(sides[i] * to_pixels))
    crop_width = max(1, round(sides[j] * to_pixels))
    places = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5)]
    down, right = places[rng.integers(len(places))]
    top, left = int(down * (height - crop_height)), int(right * (width - crop_width))
    return top, left, crop_height, crop_width


def _jitter(pixels: Tensor, operation: str, strength: float) -> Tensor:
    """Change float pixels from 0 to 1 (T, 3, H, W) by one operation; the result may leave that range."""
    if operation == "brightness":
        return pixels * strength
    if operation == "hue":
        return _shift_hue(pixels, strength)
    # The mean grey of the clip, not of each frame, so that contrast does not flicker.
    grey = _luma(pixels).mean() if operation == "contrast" else _luma(pixels)
    return torch.lerp(grey.expand_as(pixels), pixels, strength)


def _luma(pixels: Tensor) -> Tensor:
    """Return the grey level of each pixel: (..., 3, H, W) -> (..., 1, H, W)."""
    weights = torch.tensor(LUMA, device=pixels.device).reshape(3, 1, 1)
    return (pixels * weights).sum(-3, keepdim=True)


def _shift_hue(pixels: Tensor, turn: float) -> Tensor:
    """Turn the hue of HSV by `turn`, where 1 is the whole circle; value and saturation stay."""
    red, green, blue = pixels.unbind(-3)
    value, lowest = pixels.amax(-3), pixels.amin(-3)
    chroma = value - lowest
    divisor = chroma.clamp_min(1e-12)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = (sextant + 6 * turn) % 6
    shares = torch.stack([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], -3)
    return torch.addcmul(lowest.unsqueeze(-3), chroma.unsqueeze(-3), shares.clamp_(0, 1))
