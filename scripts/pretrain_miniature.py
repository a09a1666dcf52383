"""Pre-train the miniature's tiny CLIP, or its tiny captioner, on rendered stills.

    python scripts/pretrain_miniature.py clip WORK OUT
    python scripts/pretrain_miniature.py captioner WORK OUT

WORK holds the stills and checkpoints; run the same line again to go on after a break. Both need two CPU cores and no
data: every still and caption is a function of the seed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maxi.backbones import quiet_transformers
from maxi.checkpoint import load_state, save_state
from maxi.clip import CLIP_MEAN, CLIP_STD, Clip, Preprocessing
from maxi.miniature import captions
from maxi.miniature.actions import Pose
from maxi.miniature.scenes import Scene, draw_still, frames
from maxi.miniature.tokens import word_tokenizer
from maxi.randomness import generator
from maxi.records import digest, write_json

SIDE, SHARD, IMAGE = 100, 2000, 96
WIDTH = 128


class Recipe(NamedTuple):
    """What one of the two models is trained with."""

    purpose: str
    n_stills: int
    samples: int
    batch: int
    lr: float
    warmup: int
    weight_decay: float
    verb_rate: float


RECIPES = {
    "clip": Recipe("clip", 96_000, 700_000, 256, 1e-3, 300, 0.1, 0.1),
    "captioner": Recipe("captioner", 48_000, 300_000, 128, 1e-3, 200, 0.05, 0.0),
}


def render_shard(job: tuple[str, int, int, Path]) -> None:
    purpose, seed, first, path = job
    if path.exists():
        return
    rows = np.empty((SHARD, SIDE, SIDE, 3), dtype=np.uint8)
    for k in range(SHARD):
        scene, _ = draw_still(purpose, seed, first + k)
        rows[k] = next(frames(scene, (SIDE, SIDE), np.zeros(1)))
    part = path.with_suffix(".part.npy")
    np.save(part, rows)
    part.replace(path)


def stills(
    recipe: Recipe, seed: int, work: Path
) -> tuple[list[np.ndarray], list[tuple[Scene, Pose]]]:
    """Shards of pixels, memory-mapped, and the scene and visible pose of every still."""
    work.mkdir(parents=True, exist_ok=True)
    jobs = [
        (recipe.purpose, seed, first, work / f"{recipe.purpose}-{seed}-{first:06d}.npy")
        for first in range(0, recipe.n_stills, SHARD)
    ]
    with Pool() as pool:
        for n, _ in enumerate(pool.imap(render_shard, jobs), 1):
            print(f"\rstills {n * SHARD:,} of {recipe.n_stills:,}", end="", flush=True)
    print()
    told = [draw_still(recipe.purpose, seed, k) for k in range(recipe.n_stills)]
    return [np.load(job[3], mmap_mode="r") for job in jobs], told


def pixels_of(shards: list[np.ndarray], index: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Random crops, mirrored half of the time, with some brightness and contrast: (B, 3, S, S)."""
    top, left = rng.integers(0, SIDE - IMAGE + 1, (2, len(index)))
    rows = np.stack(
        [
            shards[i // SHARD][i % SHARD, y : y + IMAGE, x : x + IMAGE]
            for i, y, x in zip(index, top, left, strict=True)
        ]
    )
    pixels = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 255
    mirrored = torch.from_numpy(rng.random(len(index)) < 0.5)
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(index), 1, 1, 1))).float()
    shift = torch.from_numpy(rng.uniform(-0.06, 0.06, (len(index), 1, 1, 1))).float()
    pixels = (pixels * gain + shift).clamp(0, 1)
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def tokenizer() -> Any:
    """The words of the captions, one token each."""
    made = word_tokenizer(captions.words())
    made.model_max_length = captions.CONTEXT
    return made


def new_clip() -> Clip:
    """The tiny CLIP with random weights."""
    from transformers import CLIPConfig, CLIPModel

    words = tokenizer()
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": 3,
            "vocab_size": len(words),
            "max_position_embeddings": captions.CONTEXT,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "projection_dim": WIDTH,
        },
        vision_config={
            **tower,
            "num_hidden_layers": 4,
            "image_size": IMAGE,
            "patch_size": 16,
            "projection_dim": WIDTH,
        },
        projection_dim=WIDTH,
    )
    with quiet_transformers():
        model = CLIPModel(config)
    return Clip(model, words, preprocessing=Preprocessing(IMAGE, CLIP_MEAN, CLIP_STD))


Loss = Callable[[Tensor, list[str]], Tensor]


def clip_loss(model: Clip, scale: Tensor) -> Loss:
    """CLIP's symmetric contrast; captions that are equal are each other's positives."""

    def loss(pixels: Tensor, texts: list[str]) -> Tensor:
        z_v = F.normalize(model.encode_image(pixels), dim=-1)
        z_t = F.normalize(model.encode_text(model.tokenize(texts)), dim=-1)
        logits = z_v @ z_t.T * scale.exp().clamp(max=100.0)
        place = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        which = torch.tensor([place[text] for text in texts])
        same = (which[:, None] == which).float()
        target = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    return loss


def new_captioner() -> Any:
    """A BLIP with random weights, about 1.1 million of them."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    words = tokenizer()
    tower = {"hidden_size": 112, "intermediate_size": 336, "num_attention_heads": 4}
    special = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "sep_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = BlipConfig(
        text_config={
            **tower,
            **special,
            "encoder_hidden_size": 112,
            "num_hidden_layers": 2,
            "vocab_size": len(words),
            "max_position_embeddings": captions.CONTEXT,
            "projection_dim": 64,
        },
        vision_config={**tower, "num_hidden_layers": 4, "image_size": IMAGE, "patch_size": 16},
        projection_dim=64,
        image_text_hidden_size=64,
    )
    with quiet_transformers():
        return BlipForConditionalGeneration(config)


def captioner_loss(model: Any, words: Any) -> Loss:
    """Cross-entropy of each next token of the caption."""

    def loss(pixels: Tensor, texts: list[str]) -> Tensor:
        tokens = words(texts, padding=True, return_tensors="pt")
        # Padding and the end of a text may be one token: the mask tells them apart.
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        found: Tensor = model(pixel_values=pixels, labels=labels, **tokens).loss
        return found

    return loss


def save_captioner(model: Any, words: Any, folder: Path) -> None:
    """Write what `-s captioner=blip:FOLDER` reads."""
    from transformers import BlipImageProcessorPil

    side = {"height": IMAGE, "width": IMAGE}
    processor = BlipImageProcessorPil(size=side, image_mean=CLIP_MEAN, image_std=CLIP_STD)
    with quiet_transformers():
        for part in (model, words, processor):
            part.save_pretrained(folder)


def batches(
    recipe: Recipe, places: np.ndarray, seed: int, start: int, n_steps: int
) -> Iterator[tuple[int, np.ndarray, np.random.Generator]]:
    """Steps with the stills of each and the generator of its draws: functions of (seed, epoch, step).

    Most batches hold stills of one place, so that telling captions apart takes more than the backdrop.
    """
    per_epoch = recipe.n_stills // recipe.batch
    parts: list[np.ndarray] = []
    for step in range(start, n_steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or not parts:
            rng = generator("pretrain order", seed, epoch)
            order = rng.permutation(recipe.n_stills)
            mixed = recipe.n_stills // 4
            alike = order[mixed:][np.argsort(places[order[mixed:]], kind="stable")]
            rows = np.concatenate([order[:mixed], alike])[: per_epoch * recipe.batch]
            parts = list(rng.permutation(rows.reshape(per_epoch, recipe.batch)))
        yield step, parts[place], generator("pretrain step", seed, step)


def fit(
    name: str, recipe: Recipe, parameters: dict[str, Tensor], loss_of: Loss, work: Path, seed: int
) -> None:
    """AdamW with warm-up and a cosine; resumed from the last checkpoint in `work`."""
    shards, told = stills(recipe, seed, work)
    n_steps = recipe.samples // recipe.batch
    decay = [p for p in parameters.values() if p.ndim > 1]
    rest = [p for p in parameters.values() if p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(
        groups, recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    key, folder = digest(name, recipe._asdict(), seed), work / f"{name}-checkpoints"
    start, log = 0, []
    if found := load_state(folder, optimiser, key):
        start, weights, log = found
        with torch.no_grad():
            for n, p in parameters.items():
                p.copy_(weights[n])
    began, saved = time.monotonic(), time.monotonic()
    places = np.array([list(captions.WHERE).index(scene.place) for scene, _ in told])
    for step, index, rng in batches(recipe, places, seed, start, n_steps):
        ramp = min(1.0, (step + 1) / recipe.warmup)
        along = max(0.0, (step - recipe.warmup) / (n_steps - recipe.warmup))
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * ramp * 0.5 * (1 + math.cos(math.pi * along))
        if name == "clip":
            texts = [
                captions.clip_caption(*told[i], rng, verb_rate=recipe.verb_rate) for i in index
            ]
        else:
            texts = [captions.blip_caption(*told[i], rng) for i in index]
        loss = loss_of(pixels_of(shards, index, rng), texts)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        if step % 20 == 0 or step + 1 == n_steps:
            log.append({"step": step, "loss": round(loss.item(), 4)})
            rate = (step + 1 - start) * recipe.batch / (time.monotonic() - began)
            print(
                f"step {step} of {n_steps}  loss {loss.item():.3f}  {rate:.0f} stills/s", flush=True
            )
        if step + 1 == n_steps or time.monotonic() - saved > 60:
            save_state(folder, step + 1, parameters, optimiser, key=key, log=log)
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--n-stills", type=int)
    parser.add_argument("--verb-rate", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--warmup", type=int)
    args = parser.parse_args()
    changed = {field: value for field, value in vars(args).items() if field in Recipe._fields}
    recipe = RECIPES[args.model]._replace(**{k: v for k, v in changed.items() if v is not None})
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    if args.model == "clip":
        model = new_clip()
        scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        parameters = {**dict(model.named_parameters()), "scale": scale}
        fit("clip", recipe, parameters, clip_loss(model, scale), args.work, args.seed)
        model.model.logit_scale.copy_(scale.detach())
        model.save(args.out)
    else:
        captioner = new_captioner()
        parameters = dict(captioner.named_parameters())
        loss = captioner_loss(captioner, tokenizer())
        fit("captioner", recipe, parameters, loss, args.work, args.seed)
        save_captioner(captioner, tokenizer(), args.out)
    write_json(args.out / "pretraining.json", {**recipe._asdict(), "seed": args.seed})
    print(json.dumps({"parameters": sum(p.numel() for p in parameters.values())}))


if __name__ == "__main__":
    main()
