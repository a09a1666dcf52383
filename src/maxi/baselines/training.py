"""Train a baseline on labelled videos, with the clips, the number of steps and the optimiser of the method itself."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from maxi.baselines.baseline import Baseline
from maxi.features.embedding import to_pixels
from maxi.files import write_text
from maxi.progress import Progress
from maxi.training.batches import Batches, prefetch
from maxi.training.checkpoints import load_state, save_state
from maxi.training.gradients import check_finite, resolve_precision
from maxi.training.loop import assign
from maxi.training.schedule import Course

DONE = "done"  # the file that says that a training has ended


def train_baseline(
    baseline: Baseline,
    course: Course,
    batches: Batches,
    folder: Path,
    key: str,
    progress: Progress,
) -> None:
    """Train in place by cross-entropy over the course's classes; a training with the same `key` is gone on with.

    The temperature is `train.sigma`. Nothing is averaged with the frozen weights. Raises MaxiError when a weight is not
    finite.
    """
    parameters = baseline.learning()
    if not parameters:
        return
    config, device = course.config, baseline.clip.device
    optimiser = torch.optim.AdamW(
        parameters.values(), config.lr, config.betas, config.eps, config.weight_decay
    )
    state = load_state(folder, optimiser, key)
    start, log = (state.step, state.log) if state else (0, [])
    if state:
        assign(dict(parameters), state.weights)
    half = resolve_precision(config.precision, device) == "bfloat16"
    saved = time.monotonic()
    steps = prefetch(batches(course.steps(start)))
    ended = time.monotonic()
    for step, clips in progress(steps, course.n_steps - start, "train"):
        begun, lr = time.monotonic(), course.learning_rate(step.number)
        for group in optimiser.param_groups:
            group["lr"] = lr
        labels = torch.tensor([course.classes.index(bag.name) for bag in step.bags], device=device)
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        parts = zip(clips.split(config.micro_batch), labels.split(config.micro_batch), strict=True)
        for part, wanted in parts:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = _logits(baseline, part, course.classes, config.sigma)
            loss = F.cross_entropy(logits, wanted, reduction="sum") / len(clips)
            loss.backward()
            total += loss.item()
        optimiser.step()
        check_finite(step, list(parameters.values()), config)
        now = time.monotonic()
        row = {
            "step": step.number,
            "epoch": step.epoch,
            "loss": round(total, 6),
            "lr": lr,
            "clips": len(clips),
            "seconds": round(now - ended, 4),
            "data_seconds": round(begun - ended, 4),
        }
        log.append(row)
        ended = now
        if step.number + 1 == course.n_steps or now - saved >= config.checkpoint_seconds:
            save_state(folder, step.number + 1, parameters, optimiser, key=key, log=log)
            write_text(folder / "train.jsonl", (json.dumps(row) + "\n" for row in log))
            saved = now
    (folder / DONE).touch()


def _logits(baseline: Baseline, clips: Tensor, names: Sequence[str], sigma: float) -> Tensor:
    """Return the logits (B, K) of clips, uint8 (B, T, C, S, S), in float32."""
    videos = baseline.encode_video(to_pixels(baseline.clip, clips))
    return baseline.cosines(videos, baseline.encode_names(names)).float() / sigma
