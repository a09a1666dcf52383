"""Plan a training: a few real steps of it, and the time, memory and disk of the whole that follow from them."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from maxi.config import TrainConfig
from maxi.memory import peak_memory
from maxi.run import Run
from maxi.stages.job import Job, bag_videos, fresh_model, training_bags
from maxi.stages.rehearsal import Recorded, Source, Trial, decoded, embedded, size_of, stored
from maxi.stages.train import model_digest
from maxi.training.batches import Batches
from maxi.training.loop import Training
from maxi.training.schedule import Course, n_batches

STEPS = 3  # that are timed, after a first one
# Steps cost the same without these; one checkpoint at a time tells its size.
PLAIN = {"wandb": None, "holdout": 0.0, "result": "last", "curriculum": 1.0, "keep_last": 1}
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FUSED_BACK = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
ATTENTION_ON_CPU = {  # which torch's counter leaves out
    FUSED: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    FUSED_BACK: lambda z, q, k, v, *_, **__: sdpa_backward_flop_count(z, q, k, v),
}


@dataclass(frozen=True)
class Times:
    """Seconds of a training's parts: all before the first step; that step; a step whose files are decoded meanwhile;
    one whose clips are ready; a checkpoint; all after the last step."""

    start: float
    first: float
    decoding: float
    ready: float
    checkpoint: float
    end: float


def of_steps(
    first: float, decoding: float, ready: float, *, n_steps: int, n_decoding: float
) -> float:
    """The sum over all steps; `n_decoding` of them, the first included, are in epochs that decode.

    That is the steps over the epochs that come from one decoding: a last, shorter block decodes fewer frames.
    """
    return first + (n_decoding - 1) * decoding + (n_steps - n_decoding) * ready


def of_training(times: Times, steps: float, *, n_steps: int, checkpoint_seconds: float) -> float:
    """Seconds of a whole training whose steps take `steps` seconds together.

    A checkpoint follows the first step that ends `checkpoint_seconds` after the one before, and the last step.
    """
    saved = n_checkpoints(steps, n_steps=n_steps, checkpoint_seconds=checkpoint_seconds)
    return times.start + steps + saved * times.checkpoint + times.end


def n_checkpoints(steps: float, *, n_steps: int, checkpoint_seconds: float) -> int:
    """Checkpoints written along `n_steps` that take `steps` seconds together."""
    apart = max(1, math.ceil(checkpoint_seconds * n_steps / steps))  # steps between two
    return math.ceil(n_steps / apart)


def plan_run(job: Job, *, tflops: float | None = None) -> dict[str, Any]:
    """Seconds and bytes of training on the run's bags, from the first step to the saved model, on this machine.

    It trains for a few steps in a folder of the run that is then removed. With `tflops`, an assumed speed in
    TFLOP/s, the operations of a step are counted too. Raises MaxiError where training does.
    """
    run, config = job.run.folder.resolve(), job.config
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    folder = run / ".plan"  # one place, so that what a killed plan left is found
    shutil.rmtree(folder, ignore_errors=True)
    try:
        found = _measure(job, folder, count=tflops is not None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found["disk"]["free"] = shutil.disk_usage(run).free
    conditions = {
        "backbone": config.backbone,
        "train": config.train.model_dump(mode="json"),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(load, 1),
    }
    return {**found, "assumed_tflops": tflops, "conditions": found.pop("conditions") | conditions}


def _measure(job: Job, folder: Path, *, count: bool) -> dict[str, Any]:
    config, began = job.config.train, time.monotonic()
    bags = training_bags(job)
    videos = bag_videos(job, bags)
    key = job.fingerprint
    job.release()
    model = fresh_model(job.config)
    loading = time.monotonic() - began
    if config.trainable == "head":
        source = embedded(job, model, bags, videos, folder=folder)
    elif job.config.cache.format != "none":
        source = stored(job, model, videos)
    else:
        source = decoded(job, model, videos)

    def trial(name: str, batches: Batches, n: int, **changes: Any) -> Trial:
        found = Trial(job.progress, f"plan: {name}")
        course = Course(bags, config.model_copy(update={**PLAIN, **changes}), **draws)
        # In a folder of its own: none goes on with another's checkpoint.
        training = Training(model, course, batches, folder=folder / name, key=key)
        training.run(found.progress, max_steps=n)
        found.moments.append(time.monotonic())
        return found

    draws: dict[str, Any] = {"seed": job.config.seed, "names": job.names()}
    whole = Course(bags, config, **draws)
    n_steps = whole.n_steps
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    inputs = Recorded(source.batches)
    # With an epoch more it ends before its last step, after which comes a checkpoint.
    more = {"epochs": config.epochs + 1, "checkpoint_seconds": math.inf}
    real = trial("decoding", inputs, min(1 + STEPS, n_steps), **more)
    decoders = job.decoder.peak_memory()
    # Nothing is decoded any more, so that a checkpoint after each step lets no decoding get ahead.
    n_again = 1 + STEPS if source.n_epochs > 1 else 2
    epochs = max(config.epochs, n_again)
    again = trial("ready", inputs.again, n_again, checkpoint_seconds=0.0, epochs=epochs)
    ended = time.monotonic()
    ready = Run(folder / "ready")
    model.save(ready.model)
    model_digest(ready.model)
    saving, memory = time.monotonic() - ended, peak_memory()
    flop = 0
    if count:
        with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
            trial("counting", inputs.again, 1, **more)
        flop = counter.get_total_flops()
    found = _time(config, n_steps, source, real, again, beside=(loading, saving))
    if whole.held_out:  # each batch of them counted as a step, which costs more
        n_batches_held_out = config.epochs * n_batches(len(whole.held_out), config.batch_size)
        found["seconds"] += n_batches_held_out * found["times"]["decoding"]
    return {
        "videos": len(bags),
        **found,
        "memory": {
            "process": memory + round(source.ahead * (1 - inputs.seen(len(videos)))),
            "decoders": decoders,
            "gpu": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        },
        "disk": _disk(ready, n_again, found, source.features, config=config),
        "flop": flop,
        "conditions": {"device": str(model.device), "decoders": len(job.decoder)},
    }


def _time(
    config: TrainConfig,
    n_steps: int,
    source: Source,
    real: Trial,
    again: Trial,
    *,
    beside: tuple[float, float],
) -> dict[str, Any]:
    """Seconds of the whole and of a step, and what they were made from; `beside` training are loading and saving."""
    numbers = {"n_steps": n_steps, "n_decoding": n_steps / source.n_epochs}
    in_decoding = [row for row in real.rows if row["epoch"] % source.n_epochs == 0]
    kinds = (real.rows[:1], in_decoding[1:] or in_decoding, again.rows[1:])

    def all_steps(field: str) -> tuple[float, list[float]]:
        means = [mean(row[field] for row in rows) for rows in kinds]
        return of_steps(*means, n_steps=n_steps, n_decoding=numbers["n_decoding"]), means

    steps, (first, decoding, ready) = all_steps("seconds")
    times = Times(
        start=beside[0] + source.seconds + real.before_steps,
        first=first,
        decoding=decoding,
        ready=ready,
        checkpoint=mean(again.between_steps),
        end=real.after_steps + beside[1],
    )
    every = config.checkpoint_seconds
    return {
        **numbers,
        "n_checkpoints": n_checkpoints(steps, n_steps=n_steps, checkpoint_seconds=every),
        "seconds": of_training(times, steps, n_steps=n_steps, checkpoint_seconds=every),
        "step": steps / n_steps,
        "data": all_steps("data_seconds")[0] / n_steps,
        "times": asdict(times),
    }


def _disk(
    run: Run, n_rows: int, found: Mapping[str, Any], features: int, *, config: TrainConfig
) -> dict[str, int]:
    """Bytes: of a checkpoint and of the model; of all that stays; and of the most that lies there at a time."""
    checkpoint, model = size_of(run.checkpoints), size_of(run.model)
    events = size_of(run.tensorboard) / n_rows
    rows = size_of(run.steps) / n_rows
    kept = min(config.keep_last, found["n_checkpoints"])
    most = min(config.keep_last + 1, found["n_checkpoints"])  # one more while it is written
    logs = round(found["n_steps"] * (events + (1 + most) * rows))  # each checkpoint holds them too
    beside = logs + features + (model if config.holdout else 0)  # the best weights
    return {
        "checkpoint": checkpoint,
        "model": model,
        "stays": kept * checkpoint + model + beside,
        "peak": max(most * checkpoint, kept * checkpoint + model) + beside,
    }


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """A plan for the terminal."""
    memory, disk, conditions = found["memory"], found["disk"], found["conditions"]
    yield (
        f"{found['n_steps']:,} steps on this machine ({conditions['device']}, {conditions['cores']} cores): "
        f"{_hours(found['seconds'])}"
    )
    yield f"a step: {found['step']:.2f} s, of which {found['data']:.2f} s wait for data"
    if conditions["load"] > conditions["cores"]:
        yield f"other programs kept this machine busy (load {conditions['load']}): alone it would be faster"
    gpu = f", {_bytes(memory['gpu'])} on the GPU" if memory["gpu"] else ""
    beside = f"; decoding beside it: {_bytes(memory['decoders'])}" if memory["decoders"] else ""
    yield f"memory: {_bytes(memory['process'])}{gpu}{beside}"
    yield (
        f"disk: {_bytes(disk['peak'])} while a checkpoint is written, {_bytes(disk['stays'])} in the end; "
        f"{_bytes(disk['free'])} are free"
    )
    if disk["peak"] > disk["free"]:
        yield "the disk is too small: make room before you train"
    if tflops := found["assumed_tflops"]:
        tera = found["flop"] / 1e12
        hours = found["n_steps"] * tera / tflops / 3600
        yield f"computing: {tera:,.4g} TFLOP a step, {found['n_steps'] * tera:,.4g} TFLOP in all"
        yield (
            f"at an assumed {tflops:g} TFLOP/s sustained: {hours:,.2g} h of computing; "
            "assumed, not measured, decoding not counted"
        )


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{seconds:.0f} s"


def _bytes(n: int) -> str:
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{n / 1e6:,.1f} MB"
