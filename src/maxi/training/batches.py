"""Make the batch of each step: the clips of its videos, and the texts of their bags."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from queue import Full, Queue
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.features.training_inputs import augmented, clip_device, training_indices
from maxi.method.bags import sample_bag
from maxi.method.objectives import SINGLE
from maxi.models.video_clip import VideoCLIP
from maxi.randomness import generator
from maxi.records import Bag, Video
from maxi.text.clean import filled
from maxi.training.schedule import Step
from maxi.video.workers import Answer, Decoder, Request

T = TypeVar("T")

logger = logging.getLogger(__name__)

CLIPS_AHEAD = 2**28  # bytes of augmented clips that are kept for the next epochs
FRAMES_AHEAD = 2**26  # bytes of one video's frames that are decoded at once

WEIGHTS = 1e-30, 1e30  # float32 holds these and their logarithms

Batches = Callable[[Iterable[Step]], Iterator[tuple[Step, Tensor]]]
"""A function that turns steps into pairs of a step (without lost videos) and the inputs of its videos."""


def collate_texts(
    step: Step, config: TrainConfig, seed: int
) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Return the training prompts of a step: distinct texts U, indices (B, N) into U, weights (B, N), positives (B, B).

    Each distinct text appears once, so that it is encoded once. A weight is 1 unless the bag says otherwise, and 0 on
    padding. An empty bag has the prompt of its name alone. positives[i, j] is 1(t_i = t_j) of Eq. 2: whether both
    videos have the same matched name. With `graded_positives` it is the weight (float32) that soft matching gave t_j
    for video i.
    """
    n_bag = 1 if config.objective in SINGLE else config.n_bag
    prompt_indices: dict[str, int] = {}
    bag_indices, bag_weights = [], []
    for bag in step.bags:
        texts = sample_bag(bag, n_bag, seed=seed, epoch=step.epoch, refill=config.refill)
        prompts = [filled(config.prompt, name=t.name or bag.name, text=t.text) for t in texts] or [
            filled(config.empty_prompt, name=bag.name)
        ]
        bag_indices.append([prompt_indices.setdefault(p, len(prompt_indices)) for p in prompts])
        bag_weights.append([t.weight for t in texts] or [float(n_bag if config.refill else 1)])
    indices = torch.zeros(len(bag_indices), max(map(len, bag_indices)), dtype=torch.long)
    weights = torch.zeros(indices.shape)
    for i, (row, row_weights) in enumerate(zip(bag_indices, bag_weights, strict=True)):
        indices[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(row_weights).clamp(*WEIGHTS)
    name_indices = {bag.name: k for k, bag in enumerate(step.bags)}
    matched = torch.tensor([name_indices[bag.name] for bag in step.bags])  # (B,)
    positives = matched[:, None] == matched[None, :]
    if config.graded_positives:
        grades = torch.zeros(len(step.bags), max(name_indices.values()) + 1)
        for i, bag in enumerate(step.bags):
            for text in bag.texts:
                if text.name in name_indices:
                    k = name_indices[text.name]
                    grades[i, k] = max(grades[i, k].item(), min(1.0, text.weight))
        grades[torch.arange(len(matched)), matched] = 1.0
        positives = grades[:, matched]
    return list(prompt_indices), indices, weights, positives


def collate_classes(
    step: Step, config: TrainConfig, names: Sequence[str]
) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Return what `collate_texts` does for K fixed classes: K prompts, indices and weights (K, 1), positives (B, K)."""
    class_indices = {name: k for k, name in enumerate(names)}
    matched = torch.tensor([class_indices[bag.name] for bag in step.bags])  # (B,)
    positives = matched[:, None] == torch.arange(len(names))
    prompts = [filled(config.empty_prompt, name=name) for name in names]
    return prompts, torch.arange(len(names))[:, None], torch.ones(len(names), 1), positives


def kept_patches(
    videos: Sequence[str], epoch: int, n_patches: int, dropout: float, seed: int
) -> Tensor:
    """Return the patches (B, P) of each video that are read when the share `dropout` is left out, at least one.

    They are the same in all frames of a clip, and depend on (seed, epoch, video id) alone.
    """
    n_kept = max(1, round(n_patches * (1 - dropout)))
    kept = [generator("patches", seed, epoch, v).permutation(n_patches)[:n_kept] for v in videos]
    return torch.from_numpy(np.sort(np.stack(kept), 1))


def epochs_decoded_at_once(videos: Sequence[Video], config: TrainConfig, size: int) -> int:
    """Return for how many epochs a file is decoded at once, at least one.

    The clips of these epochs, of `size` pixels, fit into 256 MiB, and one video's frames for them into 64 MiB.
    """
    largest = max(video.width * video.height for video in videos)
    n_clips = CLIPS_AHEAD // (len(videos) * clip_bytes(config, size))
    n_decoded = FRAMES_AHEAD // (config.n_frames * 3 * largest)
    return max(1, min(config.epochs, n_clips, n_decoded))


def clip_bytes(config: TrainConfig, size: int) -> int:
    """Return the bytes of one augmented clip of `size` pixels."""
    return config.n_frames * 3 * size * size


class Lost:
    """The videos that training can no longer read.

    They are left out with a warning, so that one bad file does not end a long training. `add` raises MaxiError when
    they are more than five and more than `max_share` of all `n_videos`. The reader raises `too_many()` when a batch
    has no video left.
    """

    def __init__(self, n_videos: int, max_share: float) -> None:
        self._n_videos, self._max_share = n_videos, max_share
        self._reasons: dict[str, str] = {}  # by path

    def add(self, path: str, reason: str) -> None:
        """Note a lost video and why it cannot be read; MaxiError when too many are lost."""
        if path not in self._reasons:
            logger.warning("%s can no longer be read and is left out: %s", path, reason)
        self._reasons[path] = reason
        if len(self._reasons) > max(5, self._max_share * self._n_videos):
            raise self.too_many()

    def too_many(self) -> MaxiError:
        """Return the error that says how many videos are lost, and why the first of them is."""
        path, reason = next(iter(self._reasons.items()))
        return MaxiError(
            f"{len(self._reasons)} of {self._n_videos} videos can no longer be read, first {path} ({reason}); "
            "check the disk, then add --resume"
        )


def room(n: int, n_frames: int, size: int, device: torch.device) -> Tensor:
    """Return an empty batch of `n` clips, to be filled one by one; stacking a list would need twice the memory."""
    return torch.empty((n, n_frames, 3, size, size), dtype=torch.uint8, device=device)


def decoded_clips(
    model: VideoCLIP,
    videos: Sequence[Video],
    decoder: Decoder,
    config: TrainConfig,
    seed: int,
    *,
    max_lost: float = 0.05,
) -> Batches:
    """Return batches of augmented clips, uint8 (B, T, C, S, S); each file is decoded once for several epochs ahead.

    How many epochs these are depends on the sizes alone; for a large collection it is one. A video that fails twice
    in a row is lost, see `Lost`.
    """
    by_id = {video.id: video for video in videos}
    size, device = model.backbone.image_size, clip_device(model)
    augment = partial(augmented, size, seed=seed, scales=config.crop_scales, device=device)
    n_epochs = epochs_decoded_at_once(videos, config, size)
    lost = Lost(len(videos), max_lost)

    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for block in _blocks(list(steps), n_epochs):
            yield from block_batches(block)

    def block_batches(steps: Sequence[Step]) -> Iterator[tuple[Step, Tensor]]:
        epochs_of_videos: dict[str, list[int]] = {}  # in the order in which the videos are needed
        for step in steps:
            for bag in step.bags:
                epochs_of_videos.setdefault(bag.video, []).append(step.epoch)
        results = decoder.map([request(v, epochs) for v, epochs in epochs_of_videos.items()])
        ready: dict[tuple[str, int], Tensor] = {}
        for step in steps:
            clips = room(len(step.bags), config.n_frames, size, device)
            bags: list[Bag] = []
            for bag in step.bags:
                if epochs := epochs_of_videos.pop(bag.video, None):
                    ready |= augmented_clips(bag.video, epochs, *next(results))
                if (clip := ready.pop((bag.video, step.epoch), None)) is not None:
                    clips[len(bags)] = clip
                    bags.append(bag)
            if not bags:
                raise lost.too_many()
            yield replace(step, bags=tuple(bags)), clips[: len(bags)]

    def request(video: str, epochs: Sequence[int]) -> Request:
        indices = [
            index
            for epoch in epochs
            for index in training_indices(by_id[video], config.n_frames, seed=seed, epoch=epoch)
        ]
        return Request.of(by_id[video], indices)

    def augmented_clips(
        video: str, epochs: Sequence[int], request: Request, frames: Answer | MaxiError
    ) -> dict[tuple[str, int], Tensor]:
        if isinstance(frames, MaxiError):  # after a moment a busy machine or disk may answer
            _, frames = next(decoder.map([request]))
        if not isinstance(frames, np.ndarray):
            lost.add(str(request.path), str(frames))
            return {}
        return {
            (video, epoch): augment(part, video, epoch=epoch)
            for epoch, part in zip(epochs, np.split(frames, len(epochs)), strict=True)
        }

    return batches


def _blocks(steps: Sequence[Step], n_epochs: int) -> Iterator[list[Step]]:
    """Yield the steps of the first `n_epochs` epochs, then those of the next `n_epochs` epochs, and so on."""
    for _, block in groupby(steps, key=lambda step: (step.epoch - steps[0].epoch) // n_epochs):
        yield list(block)


def prefetch(items: Iterator[T], ahead: int = 1) -> Iterator[T]:
    """Yield the items, which a thread makes in advance, at most `ahead` at a time."""
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(ahead)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return queue.put((item, error), timeout=0.1)
            except Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item, None)
                if stop.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # passed to the reader, which raises it
            put(None, error)

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
