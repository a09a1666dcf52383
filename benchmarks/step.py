"""Compare a training step of ViT-B/16 with the released code's step: forward, backward and AdamW.

    python benchmarks/step.py

The text side and the whole step each have a process of their own, since memory that is free again stays with a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from inputs import VIT_B16, batches_of, clips, make_bags, tower, write_clip
from maxi.config import TrainConfig
from maxi.features.embedding import to_pixels
from maxi.memory import peak_memory
from maxi.models.video_clip import load_model
from maxi.progress import Shown
from maxi.records import Bag
from maxi.training.batches import collate_texts
from maxi.training.loop import Training
from maxi.training.schedule import Course, Step, schedule
from pairs import Pairs, gradient_norm, in_turn, kept, run, same, seconds
from released import Released
from scale import in_process

WHOLE, TEXTS = 1.6, 6.0  # how many times as long the released form has to take
MEMORY = 10.0  # GB that it may take


@dataclass(frozen=True)
class Sizes:
    videos: int = 2
    frames: int = 2
    bags: int = 8  # whose texts are encoded alone
    texts: int = 16
    pairs: int = 5
    towers: dict[str, Any] = field(default_factory=lambda: VIT_B16)


TINY = Sizes(
    2, 1, 2, 4, 1, {"vision": tower(64, 2, image_size=32, patch_size=8), "text": tower(64, 2)}
)


def measure(sizes: Sizes) -> bool:
    """Time the text side and the whole step; return whether numbers agree and limits are kept."""
    n = sizes.pairs + 1  # one is the warm-up
    config = TrainConfig(
        batch_size=sizes.videos,
        micro_batch=sizes.videos,  # one graph
        n_frames=sizes.frames,
        n_bag=sizes.texts,
        epochs=1,
        objective="mil_nce_outside",  # the released form, so that both losses can be compared
        lr=5e-6,
        min_lr=5e-6,  # no schedule: there are a few steps only
        checkpoint_seconds=1e9,
    )
    bags = make_bags(sizes.videos * n, sizes.texts)
    with TemporaryDirectory() as name:
        folder = write_clip(Path(name, "clip"), **sizes.towers)
        alone = Step(0, 0, tuple(make_bags(sizes.bags, sizes.texts)))
        texts, fine, of_texts = in_process(text_side, folder, alone, config, sizes.pairs)
        print(f"text side {texts}", flush=True)
        whole, equal, of_step = in_process(whole_step, folder, Path(name), bags, config)
        print(f"step      {whole}", flush=True)
    fine = fine and equal
    fine &= kept("the whole step", whole.ratio, WHOLE)
    fine &= kept("the text side alone", texts.ratio, TEXTS)
    fine &= kept("GB of memory", max(of_texts, of_step) / 1e9, MEMORY, most=True)
    return fine


def prompts_of(step: Step, config: TrainConfig) -> list[list[str]]:
    """Return the prompts of each bag, equal ones as often as they occur."""
    texts, index, _, _ = collate_texts(step, config, 0)
    return [[texts[i] for i in row] for row in index.tolist()]


def text_side(folder: Path, step: Step, config: TrainConfig, n: int) -> tuple[Pairs, bool, int]:
    """Time tokens, features and the gradient of the weights, from a given gradient of the features.

    Return the times, whether both sides agree, and the bytes of memory that it took.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    model, other = load_model(f"clip:{folder}"), Released(folder, config)
    model.freeze("all")
    texts, index, _, _ = collate_texts(step, config, 0)
    prompts = [prompt for bag in prompts_of(step, config) for prompt in bag]
    lengths = [len(ids) for ids in other.tokenizer(prompts)["input_ids"]]
    print(
        f"{len(prompts)} prompts, {len(texts)} distinct, "
        f"{sum(lengths) / len(lengths):.1f} tokens on average, {max(lengths)} at most"
    )
    gradient = torch.randn(len(prompts), model.backbone.model.config.projection_dim)

    def ours() -> None:
        model.zero_grad()
        z_t = model.encode_text(model.backbone.tokenize(texts))
        z_t[index.flatten()].backward(gradient)

    def theirs() -> None:
        other.model.zero_grad()
        other.encode_text(prompts).backward(gradient)

    pairs = in_turn(ours, theirs, n)
    norms = gradient_norm(model.parameters()), gradient_norm(other.parameters)
    return pairs, same("gradient of the text side", norms[:1], norms[1:]), peak_memory()


def whole_step(
    folder: Path, out: Path, bags: list[Bag], config: TrainConfig
) -> tuple[Pairs, bool, int]:
    """Time the steps of a training in turn with released steps on the same batches, after a warm-up of each.

    Return the same as `text_side`.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    model, other = load_model(f"clip:{folder}"), Released(folder, config)
    frames = clips(config.batch_size, config.n_frames, model.backbone.image_size)
    steps = schedule(bags, config, 0)
    our_losses, their_losses = list[float](), list[float]()
    our_seconds, their_seconds = list[float](), list[float]()

    def theirs() -> None:
        step = next(steps)
        names = list(dict.fromkeys(bag.name for bag in step.bags))
        labels = torch.tensor([names.index(bag.name) for bag in step.bags])
        loss = other.step(to_pixels(model, frames), prompts_of(step, config), labels)
        their_losses.append(loss)

    class InTurn(Shown):
        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                self._began = time.perf_counter()
                yield item
                their_seconds.append(seconds(theirs))

        def show(self, row: Mapping[str, Any]) -> None:
            our_seconds.append(time.perf_counter() - self._began)
            our_losses.append(row["loss"])

    def progress(items: Iterable[Any], total: int, label: str) -> InTurn:
        return InTurn(items)

    training = Training(model, Course(bags, config), batches_of(frames), folder=out / "run")
    done = training.run(progress)
    n_trained = sum(weight.numel() for weight in other.parameters)
    assert done["trained_parameters"] == n_trained, (done, n_trained)
    norms = gradient_norm(model.parameters()), gradient_norm(other.parameters)
    print(f"{n_trained:,} trained parameters, losses {our_losses[0]} to {our_losses[-1]}")
    equal = same("losses of the steps", our_losses, their_losses)
    equal &= same("gradient of the last step", norms[:1], norms[1:], 1e-3)
    return Pairs(our_seconds[1:], their_seconds[1:]), equal, peak_memory()


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
