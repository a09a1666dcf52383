"""Improve: fine-tune on (video, bag) pairs with a MIL objective, then ensemble in weight space (section 3.3, 4.2)."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.files import digest, write_text
from maxi.models.video_clip import VideoCLIP
from maxi.randomness import shuffled
from maxi.records import Bag
from maxi.training.averaging import Average
from maxi.training.batches import Batches, Step, epoch_sizes, n_batches, prefetch, schedule
from maxi.training.checkpoints import interpolate, load_best, load_state, save_best, save_state
from maxi.training.distributed import World
from maxi.training.gradients import Contrast, Share, resolve_precision, within_memory
from maxi.training.logbooks import open_logbooks

logger = logging.getLogger(__name__)


WITHOUT_EFFECT = {"micro_batch", "recompute", "result"}
"""Settings on which no step depends, so that a checkpoint is gone on with when they change."""


def learning_rate(step: int, n_steps: int, n_warmup: int, config: TrainConfig) -> float:
    """Linear warm-up to `lr`, then a cosine to `min_lr` that begins where the warm-up ends (section 4.2)."""
    if step < n_warmup:
        return config.lr * (step + 1) / n_warmup
    begin = n_warmup if config.cosine_from == "warmup" else 0
    along = (step - begin) / max(1, n_steps - begin)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * along))


def train(
    model: VideoCLIP,
    bags: Sequence[Bag],
    batches: Batches,
    config: TrainConfig | None = None,
    *,
    folder: Path,
    seed: int = 0,
    key: str = "",
    names: Sequence[str] = (),
    scores: Mapping[str, float] | None = None,
    progress: Callable[[Iterator[Any], int, str], Any] | None = None,
    world: World | None = None,
) -> dict[str, Any]:
    """Fine-tune `model` in place on bags, ensemble it with its original weights, and return what happened.

    In a `world` of several processes each encodes its share of every batch; features are gathered, every process takes
    the one loss over the whole batch, and the gradients are summed: the result is that of one process. The first
    writes the files.

    `batches` turns steps into inputs: uint8 clips (B, T, C, S, S), or float32 trunk features (B, T, F) when
    only the head is trained. A checkpoint in `folder` with the same `key`, bags and settings is resumed; every draw is
    a function of (seed, epoch, video id), so the end is the same as without the break. `folder/train.jsonl` gets a row
    per step. `names` are the classes of `cross_entropy`, by default those of the bags; `scores` are the matches', by
    video id, for `curriculum`. Raises MaxiError when the loss is not finite, with the video ids.
    """
    config, world = config or TrainConfig(), world or World()
    if len(bags) < 2:
        raise MaxiError("training needs at least two kept videos; add videos or raise `match.keep`")
    if len({bag.name for bag in bags}) == 1 and world.first:
        logger.warning(
            "all kept videos match one name, %r: there is nothing to contrast, so the model hardly changes; "
            "add videos of other actions, or names that fit them better",
            bags[0].name,
        )
    precision = resolve_precision(config.precision, model.device)
    config = config.model_copy(update={"precision": precision})
    frozen = copy.deepcopy(model) if config.distill else None
    equip(model, config)
    learning = model.freeze(config.trainable)
    if config.learn_sigma:
        model.logit_scale.requires_grad_(True)
        learning = [*learning, "logit_scale"]
    parameters = {n: p for n, p in model.named_parameters() if n in set(learning)}
    original = {n: p.detach().cpu().clone() for n, p in parameters.items()}
    classes = list(names) or sorted({bag.name for bag in bags})
    strange = sorted({bag.name for bag in bags} - set(classes))
    if strange and config.objective == "cross_entropy":
        raise MaxiError(
            f"{strange[0]!r} labels a bag and is none of the {len(classes)} classes; mend the bag or add the name"
        )
    contrast = Contrast(
        model,
        config,
        classes=classes,
        seed=seed,
        world=world,
        learning=list(parameters.values()),
        frozen=frozen,
    )
    optimiser = torch.optim.AdamW(
        parameters.values(), config.lr, config.betas, config.eps, config.weight_decay
    )
    average = (
        None if config.average == "none" else Average(config.average, parameters, config.ema_decay)
    )
    candidate = average.weights if average else parameters  # validated, and the result

    bags, held_out = hold_out(bags, config.holdout, seed)
    if config.curriculum < 1:
        confidence = scores or {}
        bags = sorted(bags, key=lambda bag: (-confidence.get(bag.video, -math.inf), bag.video))
    sizes = epoch_sizes(len(bags), config)
    n_steps = sum(n_batches(size, config.batch_size) for size in sizes)
    sizes += [len(held_out)] if held_out else []
    smallest = min(size // n_batches(size, config.batch_size) for size in sizes)
    if smallest < world.size:
        raise MaxiError(
            f"{world.size} processes cannot share batches of {smallest} videos; raise `train.batch_size`"
            + (" or `train.holdout`" if held_out else "")
        )
    n_warmup = round(n_steps / config.epochs * config.warmup_epochs)
    settings = {k: v for k, v in config.decisive().items() if k not in WITHOUT_EFFECT}
    key = digest(key, settings, seed, _bags_digest([*bags, *held_out]), classes)
    states = folder / "checkpoints"
    start = 0
    log: list[dict[str, Any]] = []
    if found := load_state(states, optimiser, key):
        start, log = found.step, found.log
        _assign(parameters, found.weights)
        if average:
            _assign(average.weights, found.average)
        if world.first:
            _write_log(folder, log)

    # Features are small enough for one graph.
    micro = config.batch_size * 2 if contrast.cached else config.micro_batch

    def shares(steps: Iterable[Step]) -> Iterator[Step]:
        for step in steps:
            yield replace(step, bags=tuple(world.part(step.bags)))

    def joined(own: Step, inputs: Tensor) -> Share:  # never in the thread that prefetches
        step = replace(own, bags=tuple(world.gather_lists(own.bags)))
        return Share(step, [bag.video for bag in own.bags], inputs)

    def validated() -> float:
        """The loss on the held-out videos, of clips and texts that are the same after every epoch."""
        total, n = 0.0, 0
        with _assigned(parameters, candidate):
            for own, inputs in batches(shares(_chunks(held_out, config.batch_size))):
                share = joined(own, inputs)
                total += contrast.value(share, micro) * len(share.step.bags)
                n += len(share.step.bags)
        return total / n

    def steps() -> Iterator[dict[str, Any]]:
        nonlocal micro
        saved, waited = time.monotonic(), time.monotonic()
        for own, inputs in prefetch(batches(shares(schedule(bags, config, seed, start)))):
            began = time.monotonic()
            share = joined(own, inputs)
            step = share.step
            lr = learning_rate(step.number, n_steps, n_warmup, config)
            for group in optimiser.param_groups:
                group["lr"] = lr
            while (loss := within_memory(contrast.backward, share, micro)) is None:
                micro //= 2
                if world.first:
                    logger.warning("out of memory: going on with graphs of %d videos", micro)
            optimiser.step()

            if average:
                average.step(step.epoch, config.epochs, ends=step.ends)
            now = time.monotonic()
            row = {
                "step": step.number,
                "epoch": step.epoch,
                "loss": round(loss, 6),
                "lr": lr,
                "clips": len(step.bags),
                "seconds": round(now - waited, 4),
                "data_seconds": round(began - waited, 4),
            }
            if held_out and step.ends:
                row["validation"] = validated()
                if world.first and row["validation"] < best(log):
                    save_best(states, candidate, key=key, row=row)
            log.append(row)
            yield row

            last = step.number + 1 == n_steps
            if world.first and (last or now - saved >= config.checkpoint_seconds):
                save_state(
                    states,
                    step.number + 1,
                    parameters,
                    optimiser,
                    key=key,
                    log=log,
                    average=average.weights if average else {},
                    keep=config.keep_last,
                )
                _write_log(folder, log)
                saved = time.monotonic()
            waited = time.monotonic()

    shown = progress(steps(), n_steps - start, "train") if progress else steps()
    with open_logbooks(folder, config, start) if world.first else nullcontext() as write:
        for row in shown:
            if write:
                write(row)
    tuned = {n: t.detach().cpu() for n, t in candidate.items()}
    finetuned = f"step-{n_steps:08d}/{'average' if average else 'weights'}"
    if config.result == "best":
        world.wait()
        name, tuned = load_best(states, key)
        finetuned = f"{name}/weights"
    _assign(parameters, interpolate(original, tuned, config.alpha))
    return {
        "steps": n_steps,
        "precision": precision,
        "finetuned": f"{finetuned}.safetensors",
        "trained_parameters": sum(p.numel() for p in parameters.values()),
        "empty_bags": sum(not bag.texts for bag in bags),
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
        "data_share": round(
            sum(row["data_seconds"] for row in log) / max(sum(row["seconds"] for row in log), 1e-9),
            4,
        ),
    }


def equip(model: VideoCLIP, config: TrainConfig) -> None:
    """Let the image tower work as the settings ask; MaxiError when the backbone has no transformer blocks."""
    asked = [n for n in ("temporal_blocks", "recompute", "patch_dropout") if getattr(config, n)]
    if blocks := model.backbone.image_blocks:
        blocks.recompute = config.recompute
        if config.temporal_blocks > blocks.n:
            raise MaxiError(
                f"train.temporal_blocks is {config.temporal_blocks}, but the image tower has {blocks.n} blocks;"
                " lower it"
            )
        if config.temporal_blocks:  # else as the model that it starts from
            blocks.temporal = config.temporal_blocks
    elif asked:
        raise MaxiError(
            f"backbone {model.backbone.kind!r} has no transformer blocks; leave out train.{asked[0]}"
        )


def hold_out(bags: Sequence[Bag], share: float, seed: int) -> tuple[list[Bag], list[Bag]]:
    """The bags that are trained on, and the `share` of them that validates; MaxiError when one is too small."""
    chosen = set(shuffled([b.video for b in bags], "validate", seed)[: round(share * len(bags))])
    trained = [b for b in bags if b.video not in chosen]
    held_out = [b for b in bags if b.video in chosen]
    if share and min(len(trained), len(held_out)) < 2:
        raise MaxiError(
            f"`train.holdout` {share} of {len(bags)} videos leaves {len(trained)} to train on and {len(held_out)} "
            "to validate with; both need two"
        )
    return trained, held_out


def best(log: Sequence[Mapping[str, Any]]) -> float:
    """The lowest validation loss so far."""
    return min((row["validation"] for row in log if "validation" in row), default=math.inf)


def _chunks(bags: Sequence[Bag], size: int) -> Iterator[Step]:
    """Held-out bags as steps of an epoch -1, which no training step has."""
    for part in np.array_split(np.arange(len(bags)), n_batches(len(bags), size)):
        yield Step(-1, -1, tuple(bags[i] for i in part))


@contextmanager
def _assigned(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters with other values while the block runs."""
    if parameters is values:
        yield
        return
    own = {n: p.detach().clone() for n, p in parameters.items()}
    _assign(parameters, values)
    yield
    _assign(parameters, own)


def _bags_digest(bags: Sequence[Bag]) -> str:
    total = hashlib.sha256()
    for bag in bags:
        total.update(repr((bag.video, bag.name, [tuple(t) for t in bag.texts])).encode())
    return total.hexdigest()


def _assign(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _write_log(folder: Path, log: Sequence[Mapping[str, Any]]) -> None:
    write_text(folder / "train.jsonl", (json.dumps(row) + "\n" for row in log))
