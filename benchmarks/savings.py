"""Measure what each saving of a training step brings by itself: seconds and memory without it and with it.

    python benchmarks/savings.py

The model is ViT-B/16; forward and backward go through one side alone, the frames or the texts. The numbers have to
agree before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inputs import VIT_B16, clips, make_bags, tower, write_clip
from maxi.config import TrainConfig
from maxi.features.embedding import to_pixels
from maxi.memory import peak_memory
from maxi.models import blocks
from maxi.models.video_clip import load_model
from maxi.records import Bag, read_jsonl, write_jsonl
from maxi.training.batches import collate_texts, kept_patches
from maxi.training.gradients import resolve_precision
from maxi.training.schedule import schedule
from pairs import gradient_norm, in_turn, run, same
from released import LENGTH
from scale import in_process


@dataclass(frozen=True)
class Sizes:
    videos: int = 4  # for savings of the frames' side
    frames: int = 4
    bags: int = 16  # for savings of the texts' side; some share a name, as in a batch of 256
    names: int = 11
    texts: int = 16
    pairs: int = 3
    towers: dict[str, Any] = field(default_factory=lambda: VIT_B16)


TINY = Sizes(
    2, 2, 3, 2, 4, 1, {"vision": tower(64, 2, image_size=96, patch_size=8), "text": tower(64, 2)}
)

Numbers = list[float]


class Bench:
    """A model that is trained as a whole, pixels (B, T, C, S, S), and (B, N) prompts of a step, U of them distinct."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.model = load_model(f"clip:{folder / 'clip'}")
        self.model.freeze("all")
        frames = clips(sizes.videos, sizes.frames, self.model.backbone.image_size)
        self.pixels = to_pixels(self.model, frames)
        bags = read_jsonl(folder / "bags.jsonl", Bag)
        config = TrainConfig(batch_size=sizes.bags, n_bag=sizes.texts)
        self.texts, index, _, _ = collate_texts(next(schedule(bags, config, 0)), config, 0)
        self.index = index.flatten()

    def back(self, z: Tensor) -> Numbers:
        """Return a loss of features (N, D), the same for each way of making them, and the length of its gradient."""
        self.model.zero_grad()
        rng = torch.Generator().manual_seed(0)
        loss = (z.float() * torch.randn(z.shape, generator=rng)).sum()
        loss.backward()
        return [loss.item(), gradient_norm(self.model.parameters())]

    def videos(self) -> Numbers:
        return self.back(self.model.encode_video(self.pixels))

    def packed(self) -> Numbers:
        """Encode every distinct text once, all of them in one row without padding."""
        self.model.backbone.packed = True
        return self.back(self.encoded(self.texts)[self.index])

    def encoded(self, texts: list[str]) -> Tensor:
        return self.model.encode_text(self.model.backbone.tokenize(texts))

    def padded(self, length: int | None = None) -> Numbers:
        """Encode every distinct text once, padded to the longest of them or to a given length."""
        self.model.backbone.packed = False
        tokens = self.model.backbone.tokenize(self.texts)
        if length:
            ids = tokens["input_ids"]
            end = self.model.backbone.tokenizer.pad_token_id
            tokens = {"input_ids": F.pad(ids, (0, length - ids.shape[1]), value=end)}
        return self.back(self.model.encode_text(tokens)[self.index])


class Row(NamedTuple):
    """A saving: of frames or of texts, the work without it and with it, and whether the numbers stay the same."""

    of: str
    off: Callable[[], Numbers]
    on: Callable[[], Numbers]
    exact: bool = True


def distinct_texts(bench: Bench) -> Row:
    prompts = [bench.texts[i] for i in bench.index]

    def off() -> Numbers:
        bench.model.backbone.packed = True
        return bench.back(bench.encoded(prompts))

    return Row("texts", off, bench.packed)


def short_texts(bench: Bench) -> Row:
    return Row("texts", lambda: bench.padded(LENGTH), bench.padded)


def packed_texts(bench: Bench) -> Row:
    return Row("texts", bench.padded, bench.packed)


def last_block(bench: Bench) -> Row:
    clip, shape = bench.model.backbone.model, bench.pixels.shape[:2]

    def off() -> Numbers:
        pooled = clip.vision_model(pixel_values=bench.pixels.flatten(0, 1)).pooler_output
        raw = clip.visual_projection(pooled).unflatten(0, shape)
        return bench.back(F.normalize(raw.mean(1), dim=-1))

    return Row("frames", off, bench.videos)


def fused_attention(bench: Bench) -> Row:
    def off() -> Numbers:
        before, blocks.FEW = blocks.FEW, 10**9  # plain products for any number of tokens
        try:
            return bench.videos()
        finally:
            blocks.FEW = before

    return Row("frames", off, bench.videos)


def compiled(bench: Bench) -> Row:
    encode = torch.compile(bench.model.encode_video)
    return Row("frames", bench.videos, lambda: bench.back(encode(bench.pixels)))


def recompute(bench: Bench) -> Row:
    """Measure gradient checkpointing, which saves memory and takes time."""

    def on() -> Numbers:
        bench.model.backbone.image_blocks.recompute = True
        try:
            return bench.videos()
        finally:
            bench.model.backbone.image_blocks.recompute = False

    return Row("frames", bench.videos, on)


def patch_dropout(bench: Bench) -> Row:
    names = [str(i) for i in range(len(bench.pixels))]
    kept = kept_patches(names, 0, bench.model.backbone.image_blocks.n_patches, 0.5, 0)

    def on() -> Numbers:
        return bench.back(bench.model.encode_video(bench.pixels, kept))

    return Row("frames", bench.videos, on, exact=False)


def bfloat16(bench: Bench) -> Row:
    def on() -> Numbers:
        with torch.autocast("cpu", torch.bfloat16):
            z = bench.model.encode_video(bench.pixels)
        return bench.back(z)

    return Row("frames", bench.videos, on, exact=False)


# A further saving is a function from the bench to its Row, and a line here.
ROWS: dict[str, Callable[[Bench], Row]] = {
    "distinct texts": distinct_texts,
    "77 -> longest": short_texts,
    "packed": packed_texts,
    "last block": last_block,
    "fused attention": fused_attention,
    "checkpointing": recompute,
    "torch.compile": compiled,
    "bfloat16": bfloat16,
    "half the patches": patch_dropout,
}


def measure(sizes: Sizes) -> bool:
    """Print a line for each saving; return whether the numbers agree."""
    fine = True
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip", **sizes.towers)
        bags = make_bags(sizes.bags, sizes.texts, sizes.names)
        write_jsonl(folder / "bags.jsonl", bags)
        bench = Bench(folder, sizes)
        prompts = f"{len(bench.texts)} of {len(bench.index)} prompts distinct"
        print(f"{sizes.videos} videos x {sizes.frames} frames; {prompts}")
        for saving, row_of in ROWS.items():
            if saving == "bfloat16" and resolve_precision("auto", bench.model.device) != saving:
                print("bfloat16         not on this processor, which would take many times as long")
                continue
            row = row_of(bench)
            off, on = row.off(), row.on()
            fine &= same(saving, on, off, 1e-4 if row.exact else 1.0)
            exact = "the same numbers" if row.exact else f"loss {off[0]:.4f} -> {on[0]:.4f}"
            pairs = in_turn(row.on, row.off, sizes.pairs)
            peaks = [in_process(peak, folder, sizes, saving, way) for way in ("off", "on")]
            memory = f"{peaks[0] / 1e6:6,.0f} -> {peaks[1] / 1e6:6,.0f} MB"
            print(f"{saving:16} {row.of:7}{pairs}  {memory}  {exact}", flush=True)
    return fine


def peak(folder: Path, sizes: Sizes, saving: str, way: str) -> int:
    """Return the most bytes of memory that a process takes which does the work `off` or `on` once."""
    getattr(ROWS[saving](Bench(folder, sizes)), way)()
    return peak_memory()


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
