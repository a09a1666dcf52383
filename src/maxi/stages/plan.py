"""Plan: take a few real steps of a training, and work out time, memory and disk of the whole from them."""

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
from maxi.processes import n_cores
from maxi.run import Run
from maxi.stages.bag import made_bags
from maxi.stages.inputs import bag_videos
from maxi.stages.job import Job, fresh_model
from maxi.stages.rehearsal import Recorded, Source, Trial, decoded, embedded, size_of, stored
from maxi.stages.train import model_digest
from maxi.training.batches import Batches
from maxi.training.loop import Training
from maxi.training.schedule import Course, n_batches

STEPS = 3  # steps that are timed, after the first one
# A step costs the same without these settings. With one checkpoint at a time, the folder's size is that of one.
PLAIN = {"wandb": None, "holdout": 0.0, "result": "last", "curriculum": 1.0, "keep_last": 1}
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FUSED_BACK = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
# Operations that torch's own counter leaves out.
ATTENTION_ON_CPU = {
    FUSED: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    FUSED_BACK: lambda z, q, k, v, *_, **__: sdpa_backward_flop_count(z, q, k, v),
}


@dataclass(frozen=True)
class Times:
    """Seconds that the parts of a training take.

    They are: everything before the first step; the first step; a later step while files are decoded; a step whose
    clips are ready; a checkpoint; everything after the last step.
    """

    start: float
    first: float
    decoding: float
    ready: float
    checkpoint: float
    end: float


def of_steps(
    first: float, decoding: float, ready: float, *, n_steps: int, n_decoding: float
) -> float:
    """Return the seconds of all steps together; `n_decoding` of them, with the first, are in epochs that decode.

    `n_decoding` is `n_steps` divided by the number of epochs for which files are decoded at once. It need not be a
    whole number: a last, shorter block of epochs decodes fewer frames.
    """
    return first + (n_decoding - 1) * decoding + (n_steps - n_decoding) * ready


def of_training(times: Times, steps: float, *, n_steps: int, checkpoint_seconds: float) -> float:
    """Return the seconds of a whole training whose steps take `steps` seconds together.

    A checkpoint follows the first step that ends `checkpoint_seconds` after the last checkpoint, and the last step.
    """
    saved = n_checkpoints(steps, n_steps=n_steps, checkpoint_seconds=checkpoint_seconds)
    return times.start + steps + saved * times.checkpoint + times.end


def n_checkpoints(steps: float, *, n_steps: int, checkpoint_seconds: float) -> int:
    """Return the number of checkpoints that are written in `n_steps` that take `steps` seconds together."""
    steps_between = max(1, math.ceil(checkpoint_seconds * n_steps / steps))
    return math.ceil(n_steps / steps_between)


def plan_run(job: Job, *, tflops: float | None = None) -> dict[str, Any]:
    """Return the seconds and bytes that training on the run's bags takes on this machine, up to the saved model.

    It trains for a few steps in a folder of the run, and then removes this folder. With `tflops`, an assumed speed in
    TFLOP/s, the operations of a step are counted too. Raises MaxiError where training does.
    """
    run, config = job.run.folder.resolve(), job.config
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    folder = run / ".plan"  # always the same, so that the next plan removes what a killed one left
    shutil.rmtree(folder, ignore_errors=True)
    try:
        planned = _measure(job, folder, count=tflops is not None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    planned["disk"]["free"] = shutil.disk_usage(run).free
    conditions = {
        "backbone": config.backbone,
        "train": config.train.model_dump(mode="json"),
        "rounds": config.match.rounds,
        "torch": torch.__version__,
        "cores": n_cores(),
        "threads": torch.get_num_threads(),
        "load": round(load, 1),
    }
    conditions = planned["conditions"] | conditions
    return {**planned, "assumed_tflops": tflops, "conditions": conditions}


def _measure(job: Job, folder: Path, *, count: bool) -> dict[str, Any]:
    """Train for a few steps in `folder`, and return the plan; with `count` the operations of a step as well."""
    config, began = job.config.train, time.monotonic()
    bags = made_bags(job)
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

    def train_for(name: str, batches: Batches, max_steps: int, **changes: Any) -> Trial:
        trial = Trial(job.progress, f"plan: {name}")
        course = Course(bags, config.model_copy(update={**PLAIN, **changes}), **draws)
        # Each trial has its own folder, so that none goes on with another's checkpoint.
        training = Training(model, course, batches, folder=folder / name, key=key)
        training.run(trial.progress, max_steps=max_steps)
        trial.moments.append(time.monotonic())
        return trial

    draws: dict[str, Any] = {"seed": job.config.seed, "names": job.names()}
    whole = Course(bags, config, scores={}, **draws)
    n_steps = whole.n_steps
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    inputs = Recorded(source.batches)
    # With one epoch more the trial ends before the last step, which would be followed by a checkpoint.
    longer = {"epochs": config.epochs + 1, "checkpoint_seconds": math.inf}
    real = train_for("decoding", inputs, min(1 + STEPS, n_steps), **longer)
    decoders = job.decoder.peak_memory()
    # Here each step is followed by a checkpoint. Nothing is decoded, so no decoding gets ahead in the meantime.
    n_again = 1 + STEPS if source.n_epochs > 1 else 2
    epochs = max(config.epochs, n_again)
    again = train_for("ready", inputs.again, n_again, checkpoint_seconds=0.0, epochs=epochs)
    ended = time.monotonic()
    ready = Run(folder / "ready")
    model.save(ready.model)
    model_digest(ready.model)
    saving, memory = time.monotonic() - ended, peak_memory()
    flop = 0
    if count:
        with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
            train_for("counting", inputs.again, 1, **longer)
        flop = counter.get_total_flops()
    timing = _time(config, n_steps, source, real, again, beside=(loading, saving))
    if whole.held_out:  # a held-out batch is counted as a step, though it costs less
        n_batches_held_out = config.epochs * n_batches(len(whole.held_out), config.batch_size)
        timing["seconds"] += n_batches_held_out * timing["times"]["decoding"]
    return {
        "videos": len(bags),
        **timing,
        "memory": {
            "process": memory + round(source.ahead * (1 - inputs.seen(len(videos)))),
            "decoders": decoders,
            "gpu": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        },
        "disk": _disk(ready, n_again, timing, source.features, config=config),
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
    """Return the seconds of the whole and of a step, and the numbers that they follow from.

    `beside` holds the seconds for loading and for saving the model.
    """
    numbers = {"n_steps": n_steps, "n_decoding": n_steps / source.n_epochs}
    in_decoding = [row for row in real.rows if row["epoch"] % source.n_epochs == 0]
    rows_by_kind = (real.rows[:1], in_decoding[1:] or in_decoding, again.rows[1:])

    def all_steps(field: str) -> tuple[float, list[float]]:
        """Return the sum of a field over all steps, and its mean for each kind of step."""
        means = [mean(row[field] for row in rows) for rows in rows_by_kind]
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
    spacing: dict[str, Any] = {"n_steps": n_steps, "checkpoint_seconds": config.checkpoint_seconds}
    return {
        **numbers,
        "n_checkpoints": n_checkpoints(steps, **spacing),
        "seconds": of_training(times, steps, **spacing),
        "step": steps / n_steps,
        "data": all_steps("data_seconds")[0] / n_steps,
        "times": asdict(times),
    }


def _disk(
    run: Run, n_rows: int, timing: Mapping[str, Any], features: int, *, config: TrainConfig
) -> dict[str, int]:
    """Return the bytes of a checkpoint, of the model, of all that stays, and of the most at one time.

    `run` holds what a trial of `n_rows` steps wrote; `features` are the bytes that the store will grow by.
    """
    checkpoint, model = size_of(run.checkpoints), size_of(run.model)
    events = size_of(run.tensorboard) / n_rows
    row = size_of(run.steps) / n_rows
    kept = min(config.keep_last, timing["n_checkpoints"])
    most = min(config.keep_last + 1, timing["n_checkpoints"])  # one more while it is written
    logs = round(
        timing["n_steps"] * (events + (1 + most) * row)
    )  # each checkpoint holds the rows too
    best = model if config.holdout else 0  # the best weights of the validation loss
    beside = logs + features + best
    return {
        "checkpoint": checkpoint,
        "model": model,
        "stays": kept * checkpoint + model + beside,
        "peak": max(most * checkpoint, kept * checkpoint + model) + beside,
    }


def lines_of(planned: Mapping[str, Any]) -> Iterator[str]:
    """Yield a plan as lines for the terminal."""
    memory, disk, conditions = planned["memory"], planned["disk"], planned["conditions"]
    yield (
        f"{planned['n_steps']:,} steps on this machine ({conditions['device']}, {conditions['cores']} cores): "
        f"{_hours(planned['seconds'])}"
    )
    if (rounds := conditions["rounds"]) > 1:
        yield f"match.rounds is {rounds}: `maxi adapt` trains {rounds} models, and each takes about so long"
    yield f"a step: {planned['step']:.2f} s, of which {planned['data']:.2f} s wait for data"
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
    if tflops := planned["assumed_tflops"]:
        tflop, n_steps = planned["flop"] / 1e12, planned["n_steps"]
        hours = n_steps * tflop / tflops / 3600
        yield f"computing: {tflop:,.4g} TFLOP a step, {n_steps * tflop:,.4g} TFLOP in all"
        yield (
            f"at an assumed {tflops:g} TFLOP/s sustained: {hours:,.2g} h of computing; "
            "assumed, not measured, decoding not counted"
        )


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{seconds:.0f} s"


def _bytes(n: int) -> str:
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{n / 1e6:,.1f} MB"
