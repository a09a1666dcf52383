"""Pre-train the miniature's tiny CLIP, or its tiny captioner, on rendered stills.

    python scripts/pretrain_miniature.py clip WORK OUT
    python scripts/pretrain_miniature.py captioner WORK OUT

WORK holds the stills and checkpoints; run the same line again to go on after a break. Both need two CPU cores and no
data: every still and caption is a function of the seed. A small transformer that reads captions alone takes millions
of stills to look at anything but the backdrop, so its vision tower also learns where joints and object are and
what the object is; the linear layers that this needs are thrown away.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maxi.files import digest, write_json
from maxi.miniature import captions
from maxi.miniature.actions import Pose
from maxi.miniature.body import JOINTS
from maxi.miniature.scenery import OBJECTS
from maxi.miniature.scenes import Scene, draw_still, frames, phase, points
from maxi.miniature.tokens import word_tokenizer
from maxi.models.clip import Clip
from maxi.models.foreign import CLIP_MEAN, CLIP_STD
from maxi.models.hugging_face import quiet_transformers
from maxi.models.saving import staging
from maxi.models.towers import Preprocessing
from maxi.randomness import generator
from maxi.training.checkpoints import load_state, save_state

SIDE, SHARD, IMAGE, PATCH = 100, 2000, 96, 12
GRID = IMAGE // PATCH
POINTS, THINGS = (*JOINTS, "object"), list(OBJECTS)
NEAR = 20.0  # pixels that count as 1 in the loss of the locator


class Recipe(NamedTuple):
    """What one of the two models is trained with."""

    purpose: str
    n_stills: int
    samples: int
    batch: int
    lr: float
    lr_matrices: float
    warmup: int
    floor: float  # weight of the locator's loss at the end; it is 1 at the start
    verb_rate: float


RECIPES = {
    "clip": Recipe("clip", 96_000, 352_000, 256, 2e-3, 0.03, 60, 0.5, 0.2),
    "captioner": Recipe("captioner", 48_000, 204_800, 256, 2e-3, 0.03, 60, 0.3, 0.0),
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


class Still(NamedTuple):
    """What is known of a still: its scene, the pose that is seen, joints and object in pixels (P, 2)."""

    scene: Scene
    pose: Pose
    points: np.ndarray


class Truth(NamedTuple):
    """What the locator is to find: joints and object in pixels (B, P, 2), and which object it is (B,)."""

    at: Tensor
    thing: Tensor


def describe(job: tuple[str, int, int]) -> Still:
    scene, pose = draw_still(*job)
    at = points(scene, (SIDE, SIDE), phase(scene, 0.0))
    return Still(scene, pose, np.array([at[name] for name in POINTS], dtype=np.float32))


def stills(recipe: Recipe, seed: int, work: Path) -> tuple[list[np.ndarray], list[Still]]:
    """Shards of pixels, memory-mapped, and what is known of every still."""
    work.mkdir(parents=True, exist_ok=True)
    jobs = [
        (recipe.purpose, seed, first, work / f"{recipe.purpose}-{seed}-{first:06d}.npy")
        for first in range(0, recipe.n_stills, SHARD)
    ]
    with Pool() as pool:
        for n, _ in enumerate(pool.imap(render_shard, jobs), 1):
            print(f"\rstills {n * SHARD:,} of {recipe.n_stills:,}", end="", flush=True)
        print()
        drawn = [(recipe.purpose, seed, k) for k in range(recipe.n_stills)]
        told = pool.map(describe, drawn, chunksize=500)
    return [np.load(job[3], mmap_mode="r") for job in jobs], told


def crops(
    shards: Sequence[np.ndarray],
    told: Sequence[Still],
    index: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Tensor, Truth]:
    """Random crops (B, 3, S, S), mirrored half of the time, with some brightness and contrast; what is in them."""
    top, left = rng.integers(0, SIDE - IMAGE + 1, (2, len(index)))
    rows = np.stack(
        [
            shards[i // SHARD][i % SHARD, y : y + IMAGE, x : x + IMAGE]
            for i, y, x in zip(index, top, left, strict=True)
        ]
    )
    pixels = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 255
    at = np.stack([told[i].points for i in index]) - np.stack([left, top], 1)[:, None]
    mirrored = rng.random(len(index)) < 0.5
    at[mirrored, :, 0] = IMAGE - at[mirrored, :, 0]
    pixels = torch.where(torch.from_numpy(mirrored)[:, None, None, None], pixels.flip(-1), pixels)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(index), 1, 1, 1))).float()
    shift = torch.from_numpy(rng.uniform(-0.06, 0.06, (len(index), 1, 1, 1))).float()
    pixels = (pixels * gain + shift).clamp(0, 1)
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    thing = torch.tensor([THINGS.index(told[i].scene.object) for i in index])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    return pixels, Truth(torch.from_numpy(at).float(), thing)


class Locator(nn.Module):
    """Reads from the vision tower's tokens where joints and object are; used in pre-training alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(width, 2 * len(POINTS))
        self.here = nn.Linear(width, len(POINTS))
        self.thing, self.thing_here = (nn.Linear(width, len(THINGS)) for _ in range(2))

    def loss(self, tokens: Tensor, truth: Truth) -> Tensor:
        """Tokens (B, 1 + K, W), the class token first -> scalar.

        The class token tells every point's place, and the patches which of them holds it; what the object is, both the
        class token and the patch that holds it tell.
        """
        at, thing = truth
        places = self.place(tokens[:, 0]).float().unflatten(1, (len(POINTS), 2))
        far = F.smooth_l1_loss(places, (at - IMAGE / 2) / NEAR, beta=0.2)
        cells = (at / PATCH).long().clamp(0, GRID - 1)
        cells = cells[..., 1] * GRID + cells[..., 0]
        here = self.here(tokens[:, 1:]).float().transpose(1, 2)  # (B, K, P) -> (B, P, K)
        holding = tokens[torch.arange(len(at)), 1 + cells[:, -1]]
        found = [self.thing(tokens[:, 0]), self.thing_here(holding)]
        named = sum(F.cross_entropy(logits.float(), thing) for logits in found)
        return 10 * far + F.cross_entropy(here.flatten(0, 1), cells.flatten()) + 0.5 * named


def tokenizer() -> Any:
    """The words of the captions, one token each."""
    made = word_tokenizer(captions.words())
    made.model_max_length = captions.CONTEXT
    return made


def tower(width: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}


def specials(words: Any) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(words), **{name: getattr(words, name) for name in names}}


VISION = {"num_hidden_layers": 4, "image_size": IMAGE, "patch_size": PATCH}


def new_clip() -> Clip:
    """The tiny CLIP with random weights."""
    from transformers import CLIPConfig, CLIPModel

    words, width = tokenizer(), 128
    text = {"num_hidden_layers": 3, "max_position_embeddings": captions.CONTEXT}
    config = CLIPConfig(
        text_config={**tower(width), **text, **specials(words), "projection_dim": width},
        vision_config={**tower(width), **VISION, "projection_dim": width},
        projection_dim=width,
        attn_implementation="eager",
    )
    with quiet_transformers():
        model = CLIPModel(config)
    return Clip(model, words, preprocessing=Preprocessing(IMAGE, CLIP_MEAN, CLIP_STD))


# Pixels, captions and what the locator is to find -> the captions' loss and the locator's.
Loss = Callable[[Tensor, list[str], Truth], tuple[Tensor, Tensor]]


def clip_loss(model: Clip, scale: Tensor, locator: Locator) -> Loss:
    """CLIP's symmetric contrast, captions that are equal being each other's positives, and the locator's loss."""

    def loss(pixels: Tensor, texts: list[str], truth: Truth) -> tuple[Tensor, Tensor]:
        place = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        which = torch.tensor([place[text] for text in texts])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vision = model.model.vision_model
            tokens = vision.post_layernorm(vision(pixel_values=pixels).last_hidden_state)
            located = locator.loss(tokens, truth)
            z_v = model.image_head(tokens[:, 0])
            z_t = model.encode_text(model.tokenize(list(place)))[which]
        z_v, z_t = F.normalize(z_v.float(), dim=-1), F.normalize(z_t.float(), dim=-1)
        logits = z_v @ z_t.T * scale.exp().clamp(max=100.0)
        same = (which[:, None] == which).float()
        target = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return contrast, located

    return loss


def new_captioner() -> Any:
    """A BLIP with random weights, about 1.2 million of them."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    words, width = tokenizer(), 112
    text = {
        "num_hidden_layers": 2,
        "max_position_embeddings": captions.CONTEXT,
        "encoder_hidden_size": width,
        "sep_token_id": words.eos_token_id,
        "projection_dim": 64,
    }
    config = BlipConfig(
        text_config={**tower(width), **text, **specials(words)},
        vision_config={**tower(width), **VISION},
        projection_dim=64,
        image_text_hidden_size=64,
        attn_implementation="eager",
    )
    with quiet_transformers():
        return BlipForConditionalGeneration(config)


def captioner_loss(model: Any, words: Any, locator: Locator) -> Loss:
    """Cross-entropy of each next token of the caption, and the locator's loss."""

    def loss(pixels: Tensor, texts: list[str], truth: Truth) -> tuple[Tensor, Tensor]:
        tokens = words(texts, padding=True, return_tensors="pt")
        # Padding and the end of a text may be one token: the mask tells them apart.
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(pixel_values=pixels, labels=labels, **tokens)
            located = locator.loss(found.image_embeds, truth)
        return found.loss.float(), located

    return loss


def save_captioner(model: Any, words: Any, folder: Path) -> None:
    """Write what `-s captioner=blip:FOLDER` reads."""
    from transformers import BlipImageProcessorPil

    side = {"height": IMAGE, "width": IMAGE}
    processor = BlipImageProcessorPil(size=side, image_mean=CLIP_MEAN, image_std=CLIP_STD)
    with staging(folder) as new, quiet_transformers():
        for part in (model, words, processor):
            part.save_pretrained(new)


class MuonAndAdamW:
    """Muon for the matrices of the layers, AdamW for the rest, as one optimiser: its state has one numbering."""

    def __init__(self, parameters: dict[str, Tensor], recipe: Recipe) -> None:
        inner = [p for n, p in parameters.items() if p.ndim == 2 and ".layer" in n]
        own = {id(p) for p in inner}
        outer = [p for p in parameters.values() if id(p) not in own]
        self.n_inner = len(inner)
        self.parts = (
            torch.optim.Muon(inner, recipe.lr_matrices, weight_decay=0.01, adjust_lr_fn="original"),
            torch.optim.AdamW(outer, recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
        )
        self.rates = (recipe.lr_matrices, recipe.lr)

    def step(self, share: float) -> None:
        """One step at `share` of the peak learning rates."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * share
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The numbered states of all parameters, Muon's first."""
        inner, outer = (part.state_dict()["state"] for part in self.parts)
        return {"state": {**inner, **{self.n_inner + k: v for k, v in outer.items()}}}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        inner = {k: v for k, v in found["state"].items() if k < self.n_inner}
        outer = {k - self.n_inner: v for k, v in found["state"].items() if k >= self.n_inner}
        for part, state in zip(self.parts, (inner, outer), strict=True):
            part.load_state_dict({**part.state_dict(), "state": state})


def batches(
    recipe: Recipe, seed: int, start: int, n_steps: int
) -> Iterator[tuple[int, np.ndarray, np.random.Generator]]:
    """Steps with the stills of each and the generator of its draws: functions of (seed, epoch, step)."""
    per_epoch = recipe.n_stills // recipe.batch
    order = np.empty(0, dtype=int)
    for step in range(start, n_steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or not len(order):
            order = generator("pretrain order", seed, epoch).permutation(recipe.n_stills)
        index = order[place * recipe.batch : (place + 1) * recipe.batch]
        yield step, index, generator("pretrain step", seed, step)


def fit(
    name: str, recipe: Recipe, parameters: dict[str, Tensor], loss_of: Loss, work: Path, seed: int
) -> None:
    """Train with a warm-up and a linear decay; resumed from the last checkpoint in `work`."""
    shards, told = stills(recipe, seed, work)
    n_steps = recipe.samples // recipe.batch
    optimiser: Any = MuonAndAdamW(parameters, recipe)
    key, folder = digest(name, recipe._asdict(), seed), work / f"{name}-checkpoints"
    start, log = 0, []
    if found := load_state(folder, optimiser, key):
        start, weights, log = found
        with torch.no_grad():
            for n, p in parameters.items():
                p.copy_(weights[n])
    began = saved = time.monotonic()
    for step, index, rng in batches(recipe, seed, start, n_steps):
        seen = [(told[i].scene, told[i].pose) for i in index]
        if name == "clip":
            texts = [captions.clip_caption(*s, rng, verb_rate=recipe.verb_rate) for s in seen]
        else:
            texts = [captions.blip_caption(*s, rng) for s in seen]
        pixels, truth = crops(shards, told, index, rng)
        loss, located = loss_of(pixels, texts, truth)
        optimiser.zero_grad()
        (loss + (1 - (1 - recipe.floor) * step / n_steps) * located).backward()
        nn.utils.clip_grad_norm_(parameters.values(), 5.0)
        along = max(0.0, (step - recipe.warmup) / (n_steps - recipe.warmup))
        optimiser.step(min(1.0, (step + 1) / recipe.warmup) * (1 - along))
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
    for field, kind in Recipe.__annotations__.items():
        if field != "purpose":
            as_type = float if "float" in str(kind) else int
            parser.add_argument(f"--{field.replace('_', '-')}", type=as_type)
    args = parser.parse_args()
    changed = {field: value for field, value in vars(args).items() if field in Recipe._fields}
    recipe = RECIPES[args.model]._replace(**{k: v for k, v in changed.items() if v is not None})
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    if args.model == "clip":
        model, scale = new_clip(), nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        locator = Locator(model.model.config.vision_config.hidden_size)
        named = chain(model.named_parameters(), [("scale", scale)], locator.named_parameters())
        fit("clip", recipe, dict(named), clip_loss(model, scale, locator), args.work, args.seed)
        model.model.logit_scale.copy_(scale.detach())
        model.save(args.out)
    else:
        captioner, words = new_captioner(), tokenizer()
        locator = Locator(captioner.config.vision_config.hidden_size)
        named = chain(captioner.named_parameters(), locator.named_parameters())
        loss = captioner_loss(captioner, words, locator)
        fit("captioner", recipe, dict(named), loss, args.work, args.seed)
        save_captioner(captioner, words, args.out)
    write_json(args.out / "pretraining.json", {**recipe._asdict(), "seed": args.seed})
    print(json.dumps({"folder": str(args.out)}))


if __name__ == "__main__":
    main()
