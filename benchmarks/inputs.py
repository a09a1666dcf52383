"""Make what the benchmarks of training work on: a random CLIP, bags of the shipped phrases, clips of noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxi.files import write_json
from maxi.method.bags import build_bags
from maxi.records import Bag, Match, Phrases
from maxi.text.phrasebook import shipped_book
from maxi.text.verbs import VerbParser
from maxi.training.batches import Batches
from maxi.training.schedule import Step

VIT_B16 = {"vision": {"patch_size": 16}, "text": {}}
"""What openai/clip-vit-base-patch16 changes in the defaults of transformers."""


def tower(width: int, layers: int, **settings: int) -> dict[str, int]:
    """Return the settings of a tower of this width, with heads of 64 as in CLIP, but at least two of them."""
    heads = max(2, width // 64)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, **settings}


def write_clip(
    folder: Path, *, vision: Mapping[str, Any], text: Mapping[str, Any], width: int = 512
) -> Path:
    """Write a CLIP of random weights with OpenAI's tokenizer and D = `width`; return its folder."""
    from transformers import CLIPConfig, CLIPModel

    from maxi.models.clip_tokenizer import clip_tokenizer
    from maxi.models.hugging_face import quiet_transformers

    tokenizer = clip_tokenizer()
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    config = CLIPConfig(
        text_config={**text, **ids, "projection_dim": width},
        vision_config={**vision, "projection_dim": width},
        projection_dim=width,
    )
    torch.manual_seed(0)
    with quiet_transformers():
        CLIPModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    side = config.vision_config.image_size
    crop = {"height": side, "width": side}
    preprocessing = {"size": {"shortest_edge": side}, "crop_size": crop}
    write_json(folder / "preprocessor_config.json", preprocessing)
    return folder


def make_bags(n: int, n_bag: int, n_names: int | None = None) -> list[Bag]:
    """Return the bags of `n` videos, matched to `n_names` shipped names in turn; each bag has at least `n_bag` texts.

    They hold what the pipeline puts in without captions: phrases, their verbs and the name's, 19 on average.
    """
    book, parser, large_bags = shipped_book(), _parser(), list[Bag]()
    for name, texts in book.texts.items():
        match, phrases = Match("", name, 1.0, True), Phrases(name, tuple(texts), "shipped")
        (bag,) = build_bags([match], [phrases], [], parser)
        if len(bag.texts) >= n_bag:
            large_bags.append(bag)
        if len(large_bags) == (n_names or n):
            break
    return [Bag(f"v{i}", bag.name, bag.texts) for i, bag in enumerate((large_bags * n)[:n])]


@cache
def _parser() -> VerbParser:
    return VerbParser()


def clips(n: int, n_frames: int, size: int) -> Tensor:
    """Return clips of noise: uint8 (B, T, C, S, S)."""
    rng = torch.Generator().manual_seed(0)
    shape = (n, n_frames, 3, size, size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=rng)


def batches_of(frames: Tensor) -> Batches:
    """Return batches that give a training the same clips (B, T, C, S, S) in every step."""

    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for step in steps:
            yield step, frames[: len(step.bags)]

    return batches
