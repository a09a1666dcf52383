"""Improve: fine-tune on videos and bags with a MIL objective, then ensemble in weight space (sections 3.3 and 4.2)."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.files import digest, write_text
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress, silent
from maxi.run import Run
from maxi.training.averaging import Average
from maxi.training.batches import Batches, prefetch
from maxi.training.checkpoints import interpolate, load_best, load_state, save_best, save_state
from maxi.training.distributed import World
from maxi.training.gradients import (
    Contrast,
    Share,
    check_finite,
    resolve_precision,
    within_memory,
)
from maxi.training.logbooks import open_logbooks
from maxi.training.schedule import Course, Step

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""A line of `train.jsonl`: what happened in a step."""

WITHOUT_EFFECT = {"micro_batch", "recompute", "result"}
"""Settings that change no step, so that a training can be resumed after they have changed."""


class Training:
    """The fine-tuning of a model in place along a course, with its checkpoints and its log in `folder`.

    `batches` turns steps into inputs: uint8 clips (B, T, C, S, S), or float32 trunk features (B, T, F) when only the
    head is trained. The training resumes from a checkpoint with the same `key`, bags and settings. Every draw depends
    on (seed, epoch, video id) alone, so that the result is the same as without the break.

    In a `world` of several processes, each process encodes its share of every batch. The embeddings are gathered,
    every process computes the loss of the whole batch, and the gradients are summed, so that the result is the same as
    with one process. The first process writes the files.

    Raises MaxiError when the batches are too small for the processes, or the backbone lacks what a setting needs.
    """

    def __init__(
        self,
        model: VideoCLIP,
        course: Course,
        batches: Batches,
        *,
        folder: Path,
        key: str = "",
        world: World | None = None,
    ) -> None:
        self.model, self.course, self.batches = model, course, batches
        self.files, self.world = Run(folder), world or World()
        self.states = self.files.checkpoints
        precision = resolve_precision(course.config.precision, model.device)
        self.config = config = course.config.model_copy(update={"precision": precision})
        self._check()
        frozen = copy.deepcopy(model) if config.distill else None
        equip(model, config)
        self.parameters = learning_parameters(model, config)
        self.original = {n: p.detach().cpu().clone() for n, p in self.parameters.items()}
        self.contrast = Contrast(
            model,
            config,
            classes=course.classes,
            seed=course.seed,
            world=self.world,
            learning=list(self.parameters.values()),
            frozen=frozen,
        )
        # Features are small enough for one graph.
        self.micro = config.batch_size if self.contrast.cached else config.micro_batch
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), config.lr, config.betas, config.eps, config.weight_decay
        )
        self.average = None
        if config.average != "none":
            self.average = Average(config.average, self.parameters, config.ema_decay)
        self.result = self.average.weights if self.average else self.parameters
        settings = {k: v for k, v in config.decisive().items() if k not in WITHOUT_EFFECT}
        self.key = digest(key, settings, course.seed, course.digest(), course.classes)
        self.log: list[Row] = []

    def run(self, progress: Progress = silent, *, max_steps: int | None = None) -> Row:
        """Train to the end, or for `max_steps`, then ensemble with the original weights, and return a summary.

        Raises MaxiError when the loss, a gradient or a weight is not finite, before anything of that step is saved,
        when a batch has a single video that can be read, or when a checkpoint cannot be written.
        """
        start = self.resume()
        batches = prefetch(self.batches(self._shares(self.course.steps(start))))
        n_left = min(self.course.n_steps - start, max_steps or self.course.n_steps)
        logbooks = open_logbooks(self.files, self.config, start)
        with logbooks if self.world.first else nullcontext() as write:
            saved = waited = time.monotonic()
            shown = progress(islice(batches, max_steps), n_left, "train")
            for own, inputs in shown:
                # Load: the inputs of this process are there, and the other processes tell which videos they have.
                began = time.monotonic()
                share = self._joined(own, inputs)
                step = share.step

                # Learning rate.
                lr = self.course.learning_rate(step.number)
                for group in self.optimiser.param_groups:
                    group["lr"] = lr

                # Forward, objective, backward, in graphs of as many videos as fit into memory.
                while (loss := within_memory(self.contrast.backward, share, self.micro)) is None:
                    self.micro //= 2
                    if self.world.first:
                        logger.warning(
                            "out of memory: going on with graphs of %d videos", self.micro
                        )

                # Step.
                self.optimiser.step()
                check_finite(step, list(self.parameters.values()), self.config)
                if self.average:
                    self.average.step(step.epoch, self.config.epochs, ends=step.ends)

                # Log.
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

                # Evaluate.
                if self.course.held_out and step.ends:
                    row["validation"] = self.validate()
                    if self.world.first and row["validation"] < best(self.log):
                        save_best(self.states, self.result, key=self.key, row=row)
                self.log.append(row)
                shown.show(row)
                if write:
                    write(row)

                # Save.
                last = step.number + 1 == self.course.n_steps
                if last and not self.course.held_out:  # which have tried the weights already
                    self._try(share)
                if self.world.first and (last or now - saved >= self.config.checkpoint_seconds):
                    self.save()
                    saved = time.monotonic()
                waited = time.monotonic()
        return self._finish()

    def resume(self) -> int:
        """Load the newest checkpoint of this training, if there is one, and return the number of the next step."""
        state = load_state(self.states, self.optimiser, self.key)
        if state is None:
            return 0
        self.log = state.log
        assign(self.parameters, state.weights)
        if self.average:
            assign(self.average.weights, state.average)
        if self.world.first:
            self._write_log()
        return state.step

    def validate(self) -> float:
        """Return the mean loss on the held-out videos; their clips and texts are the same after every epoch."""
        total, n_videos = 0.0, 0
        with assigned(self.parameters, self.result):
            for own, inputs in self.batches(self._shares(self.course.validation())):
                share = self._joined(own, inputs)
                total += self.contrast.value(share, self.micro) * len(share.step.bags)
                n_videos += len(share.step.bags)
        return total / n_videos

    def _try(self, share: Share) -> None:
        """Raise MaxiError when the weights that the last step left, which no other step tries, give no finite loss."""
        with assigned(self.parameters, self.result):
            self.contrast.value(share, self.micro)

    def save(self) -> None:
        """Write a checkpoint that holds the steps of the log, then the log itself."""
        save_state(
            self.states,
            self.log[-1]["step"] + 1,
            self.parameters,
            self.optimiser,
            key=self.key,
            log=self.log,
            average=self.average.weights if self.average else {},
            keep=self.config.keep_last,
        )
        self._write_log()

    def _check(self) -> None:
        """Raise MaxiError when the processes cannot share the batches; warn when there is nothing to contrast."""
        if (smallest := self.course.smallest_batch()) < self.world.size:
            settings = "`train.batch_size`"
            if self.course.held_out:
                settings += " or `train.holdout`"
            raise MaxiError(
                f"{self.world.size} processes cannot share batches of {smallest} videos; raise {settings}"
            )
        if len(self.course.matched) == 1 and self.world.first:
            logger.warning(
                "all kept videos match one name, %r: there is nothing to contrast, so the model hardly changes; "
                "add videos of other actions, or names that fit them better",
                self.course.matched[0],
            )

    def _shares(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Yield the steps with this process's part of their bags."""
        for step in steps:
            yield replace(step, bags=tuple(self.world.part(step.bags)))

    def _joined(self, own: Step, inputs: Tensor) -> Share:
        """Return the step with the bags of all processes, which are exchanged: never call it in the prefetch thread."""
        step = replace(own, bags=tuple(self.world.gather_lists(own.bags)))
        if len(step.bags) == 1 and self.config.objective != "cross_entropy":
            raise MaxiError(
                f"step {step.number}: video {step.bags[0].video} alone is left of its batch, with nothing to contrast "
                "it with; check the disk for the others, or raise `train.batch_size`, then add --resume"
            )
        return Share(step, [bag.video for bag in own.bags], inputs)

    def _write_log(self) -> None:
        write_text(self.files.steps, (json.dumps(row) + "\n" for row in self.log))

    def _finish(self) -> Row:
        """Ensemble the chosen weights with the original ones, and return a summary of the training."""
        weights: Mapping[str, Tensor] = {n: t.detach().cpu() for n, t in self.result.items()}
        weights_file = f"step-{self.course.n_steps:08d}/{'average' if self.average else 'weights'}"
        if self.config.result == "best":
            self.world.wait()
            best_folder, weights = load_best(self.states, self.key)
            weights_file = f"{best_folder}/weights"
        assign(self.parameters, interpolate(self.original, weights, self.config.alpha))
        seconds = sum(row["seconds"] for row in self.log)
        data_seconds = sum(row["data_seconds"] for row in self.log)
        return {
            "steps": self.course.n_steps,
            "precision": self.config.precision,
            "finetuned": f"{weights_file}.safetensors",
            "trained_parameters": sum(p.numel() for p in self.parameters.values()),
            "empty_bags": sum(not bag.texts for bag in self.course.bags),
            "first_loss": self.log[0]["loss"],
            "last_loss": self.log[-1]["loss"],
            "data_share": round(data_seconds / max(seconds, 1e-9), 4),
        }


def equip(model: VideoCLIP, config: TrainConfig) -> None:
    """Set the image tower to temporal attention and recomputation, as the settings ask.

    Raises MaxiError when the settings need transformer blocks, and the backbone has none or too few.
    """
    block_settings = ("temporal_blocks", "recompute", "patch_dropout")
    used = [setting for setting in block_settings if getattr(config, setting)]
    if blocks := model.backbone.image_blocks:
        blocks.recompute = config.recompute
        if config.temporal_blocks > blocks.n:
            raise MaxiError(
                f"train.temporal_blocks is {config.temporal_blocks}, but the image tower has {blocks.n} blocks;"
                " lower it"
            )
        if config.temporal_blocks:  # without it, the model keeps those that it has
            blocks.temporal = config.temporal_blocks
    elif used:
        raise MaxiError(
            f"backbone {model.backbone.kind!r} has no transformer blocks; leave out train.{used[0]}"
        )


def learning_parameters(model: VideoCLIP, config: TrainConfig) -> dict[str, Tensor]:
    """Return the parameters that learn, by name, and freeze all others."""
    names = set(model.freeze(config.trainable))
    if config.freeze_tokens:
        names = {name for name in names if not name.endswith("token_embedding.weight")}
    if config.learn_sigma:
        names.add("logit_scale")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return {n: p for n, p in model.named_parameters() if n in names}


def best(log: Sequence[Mapping[str, Any]]) -> float:
    """Return the lowest validation loss of the log, infinity when it has none."""
    return min((row["validation"] for row in log if "validation" in row), default=math.inf)


@contextmanager
def assigned(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the parameters other values while the `with` block runs."""
    if parameters is values:
        yield
        return
    kept = {n: p.detach().clone() for n, p in parameters.items()}
    assign(parameters, values)
    yield
    assign(parameters, kept)


def assign(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into parameters, in place."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
