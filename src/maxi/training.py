"""Improve: fine-tune on (video, bag) pairs with a MIL objective, then ensemble in weight space (section 3.3, 4.2)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxi.checkpoint import interpolate, load_state, save_state
from maxi.config import TrainConfig
from maxi.distributed import World
from maxi.errors import MaxiError, choose
from maxi.features import to_pixels
from maxi.loader import (
    Batches,
    Step,
    collate_classes,
    collate_texts,
    n_batches,
    prefetch,
    schedule,
)
from maxi.model import VideoCLIP
from maxi.objectives import OBJECTIVES, contrasted
from maxi.records import Bag, digest, write_text

logger = logging.getLogger(__name__)

Progress = Callable[[Iterator[dict[str, Any]], int, str], Iterator[dict[str, Any]]]


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
    per step. `names` are the classes of `cross_entropy`, by default those of the bags. Raises MaxiError when the loss
    is not finite, with the video ids.
    """
    config, world = config or TrainConfig(), world or World()
    if len(bags) < 2:
        raise MaxiError("training needs at least two kept videos; add videos or raise `match.keep`")
    if len({bag.label for bag in bags}) == 1:
        logger.warning(
            "all kept videos match one name, %r: there is nothing to contrast, so the model hardly changes; "
            "add videos of other actions, or names that fit them better",
            bags[0].label,
        )
    learning = model.freeze(config.trainable)
    if config.learn_sigma:
        model.logit_scale.requires_grad_(True)
        learning = [*learning, "logit_scale"]
    parameters = {n: p for n, p in model.named_parameters() if n in set(learning)}
    original = {n: p.detach().cpu().clone() for n, p in parameters.items()}
    objective = contrasted(
        choose(OBJECTIVES, config.objective, "objective"), config.contrast, config.text_to_video
    )
    classes = list(names) or sorted({bag.label for bag in bags})
    strange = sorted({bag.label for bag in bags} - set(classes))
    if strange and config.objective == "cross_entropy":
        raise MaxiError(
            f"{strange[0]!r} labels a bag and is none of the {len(classes)} classes; mend the bag or add the name"
        )
    optimiser = torch.optim.AdamW(
        parameters.values(), config.lr, config.betas, config.eps, config.weight_decay
    )

    per_epoch = n_batches(len(bags), config.batch_size)
    if len(bags) // per_epoch < world.size:
        raise MaxiError(
            f"{world.size} processes cannot share batches of {len(bags) // per_epoch} videos; raise `train.batch_size`"
        )
    n_steps, n_warmup = per_epoch * config.epochs, round(per_epoch * config.warmup_epochs)
    settings = config.model_dump(mode="json", exclude={"checkpoint_seconds"})
    key = digest(key, settings, seed, _bags_digest(bags), classes)
    start = 0
    log: list[dict[str, Any]] = []
    if found := load_state(folder / "checkpoints", optimiser, key):
        start, weights, log = found
        _assign(parameters, weights)
        if world.first:
            _write_log(folder, log)
    cached = config.trainable == "head"  # small enough for one graph

    def in_precision() -> torch.autocast:
        half = config.precision == "bfloat16"
        return torch.autocast(model.device.type, torch.bfloat16, enabled=half)

    def videos(part: Tensor) -> Tensor:  # (B, T, C, S, S) or (B, T, F) -> (B, D)
        with in_precision():
            if cached:
                return model.embed_features(part.to(model.device))
            return model.encode_video(to_pixels(model, part))

    def texts_of(tokens: Any) -> Tensor:
        with in_precision():
            return model.encode_text(tokens)

    tunes_videos, tunes_texts = config.trainable != "text", config.trainable != "visual"

    def gradients(step: Step, inputs: Tensor, micro: int) -> float:
        """The loss of the whole batch, and in every parameter its gradient, from graphs of `micro` videos."""
        texts, index, weight, positives = (
            collate_classes(step, config, classes)
            if config.objective == "cross_entropy"
            else collate_texts(step, config, seed)
        )
        weight = weight.to(model.device)
        own_videos, videos_back = _encode(videos, inputs.split(micro), tunes_videos)
        # Each distinct text once, padded to the longest of this process's share.
        tokens = model.backbone.tokenize(world.part(texts))
        own_texts, texts_back = _encode(texts_of, _split(tokens, micro * config.n_bag), tunes_texts)
        (z_v, at_videos), (z_t, at_texts) = world.gather(own_videos), world.gather(own_texts)
        z_v.requires_grad_(tunes_videos)  # (B, D)
        z_t.requires_grad_(tunes_texts)  # (U, D)
        z_t_of_bags = z_t[index.to(model.device)]  # (U, D) -> (B, N, D)
        logits = (
            torch.einsum("id,jnd->ijn", z_v.float(), z_t_of_bags.float()) * model.logit_scale.exp()
        )
        # w exp(x) = exp(x + log w): a text's weight in every sum of Eq. 2.
        loss = objective(logits + weight.log(), weight > 0, positives.to(model.device))
        if not torch.isfinite(loss):
            ids = ", ".join(bag.video for bag in step.bags[:8])
            raise MaxiError(
                f"step {step.number}: the loss is not finite; lower `lr` or raise `sigma` (videos {ids}, ...)"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for z, back, at in ((z_v, videos_back, at_videos), (z_t, texts_back, at_texts)):
            if z.grad is not None:
                back(z.grad[at])
        if model.logit_scale.grad is not None:
            model.logit_scale.grad /= world.size  # every process has the whole of it
        world.sum_gradients(parameters.values())
        return loss.item()

    def shares() -> Iterator[Step]:
        for step in schedule(bags, config, seed, start):
            yield replace(step, bags=tuple(world.part(step.bags)))

    def steps() -> Iterator[dict[str, Any]]:
        micro = config.batch_size * 2 if cached else config.micro_batch
        saved, waited = time.monotonic(), time.monotonic()
        for share, inputs in prefetch(batches(shares())):
            began = time.monotonic()
            step = replace(share, bags=tuple(world.gather_lists(share.bags)))
            lr = learning_rate(step.number, n_steps, n_warmup, config)
            for group in optimiser.param_groups:
                group["lr"] = lr
            while (loss := _within_memory(gradients, step, inputs, micro, world)) is None:
                micro //= 2
                logger.warning("out of memory: going on with graphs of %d videos", micro)
            optimiser.step()

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
            log.append(row)
            yield row

            last = step.number + 1 == n_steps
            if world.first and (last or now - saved >= config.checkpoint_seconds):
                save_state(
                    folder / "checkpoints", step.number + 1, parameters, optimiser, key=key, log=log
                )
                _write_log(folder, log)
                saved = time.monotonic()
            waited = time.monotonic()

    shown = progress(steps(), n_steps - start, "train") if progress else steps()
    for _ in shown:
        pass
    tuned = {n: p.detach().cpu() for n, p in parameters.items()}
    _assign(parameters, interpolate(original, tuned, config.alpha))
    return {
        "steps": n_steps,
        "trained_parameters": sum(p.numel() for p in parameters.values()),
        "empty_bags": sum(not bag.texts for bag in bags),
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
        "data_share": round(
            sum(row["data_seconds"] for row in log) / max(sum(row["seconds"] for row in log), 1e-9),
            4,
        ),
    }


def _within_memory(
    gradients: Callable[[Step, Tensor, int], float],
    step: Step,
    inputs: Tensor,
    micro: int,
    world: World,
) -> float | None:
    """The loss of a step, or None when it needs smaller graphs; raises OutOfMemoryError when there are none."""
    try:
        return gradients(step, inputs, micro)
    except torch.OutOfMemoryError:
        if micro == 1 or world.size > 1:  # the others are already waiting for features of this size
            raise
    torch.cuda.empty_cache()  # here, where no traceback keeps the graph alive
    return None


def _encode(
    encode: Callable[[Any], Tensor], parts: Sequence[Any], tuned: bool
) -> tuple[Tensor, Callable[[Tensor], None]]:
    """Features of all parts, and what carries their gradient back when the loss has told it.

    Several parts are encoded without a graph first and once more, one graph at a time, when the gradient of their
    features is known: memory is that of one part, the gradient that of the whole batch.
    """
    if len(parts) == 1:
        with torch.set_grad_enabled(tuned):
            z = encode(parts[0])
        return z, z.backward
    with torch.no_grad():
        rows = [encode(part) for part in parts]

    def back(gradient: Tensor) -> None:
        for part, of_part in zip(parts, gradient.split([len(r) for r in rows]), strict=True):
            encode(part).backward(of_part)

    return torch.cat(rows), back


def _split(tokens: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    n = len(next(iter(tokens.values())))
    return [{k: v[i : i + size] for k, v in tokens.items()} for i in range(0, n, size)]


def _bags_digest(bags: Sequence[Bag]) -> str:
    total = hashlib.sha256()
    for bag in bags:
        total.update(repr((bag.video, bag.label, [tuple(t) for t in bag.texts])).encode())
    return total.hexdigest()


def _assign(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _write_log(folder: Path, log: Sequence[Mapping[str, Any]]) -> None:
    write_text(folder / "train.jsonl", (json.dumps(row) + "\n" for row in log))
