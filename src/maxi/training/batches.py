"""Steps -> batches: the frames of a step's videos, their texts and masks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
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
from maxi.training.schedule import Step
from maxi.video.workers import Answer, Decoder, Request

T = TypeVar("T")

logger = logging.getLogger(__name__)

CLIPS_AHEAD = 2**28  # bytes of augmented clips of the epochs to come
FRAMES_AHEAD = 2**26  # bytes of a video's frames decoded at once


Batches = Callable[[Iterable[Step]], Iterator[tuple[Step, Tensor]]]


def collate_texts(
    step: Step, config: TrainConfig, seed: int
) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Training prompts of a step: distinct texts U, their index (B, N) into U, weights (B, N), positives (B, B).

    Each distinct text appears once, so that it is encoded once. The weight is 1 unless the bag says otherwise, and 0
    on padding; an empty bag has the class prompt alone. positives[i, j] = 1(t_i = t_j) of Eq. 2: same matched name;
    with `graded_positives` they are float32, the weight that soft matching gave video i for t_j.
    """
    n_bag = 1 if config.objective in SINGLE else config.n_bag
    place: dict[str, int] = {}
    rows, weights = [], []
    for bag in step.bags:
        texts = sample_bag(bag, n_bag, seed=seed, epoch=step.epoch)
        prompts = [
            config.prompt.replace("{name}", t.name or bag.name).replace("{text}", t.text)
            for t in texts
        ] or [config.empty_prompt.replace("{name}", bag.name)]
        rows.append([place.setdefault(prompt, len(place)) for prompt in prompts])
        weights.append([t.weight for t in texts] or [1.0])
    index = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    weight = torch.zeros(index.shape)
    for i, row in enumerate(rows):
        index[i, : len(row)] = torch.tensor(row)
        weight[i, : len(row)] = torch.tensor(weights[i])
    places = {bag.name: k for k, bag in enumerate(step.bags)}
    place_of = torch.tensor([places[bag.name] for bag in step.bags])
    positives = place_of[:, None] == place_of[None, :]
    if config.graded_positives:
        grades = torch.zeros(len(step.bags), max(places.values()) + 1)
        for i, bag in enumerate(step.bags):
            for text in bag.texts:
                if text.name in places:
                    cell = i, places[text.name]
                    grades[cell] = max(grades[cell].item(), min(1.0, text.weight))
        grades[torch.arange(len(place_of)), place_of] = 1.0
        positives = grades[:, place_of]
    return list(place), index, weight, positives


def collate_classes(
    step: Step, config: TrainConfig, names: Sequence[str]
) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """What `collate_texts` returns, with the prompts of K fixed classes for texts: (K, 1), (K, 1), positives (B, K)."""
    place = {name: k for k, name in enumerate(names)}
    place_of = torch.tensor([place[bag.name] for bag in step.bags])
    positives = place_of[:, None] == torch.arange(len(names))
    prompts = [config.empty_prompt.replace("{name}", name) for name in names]
    return prompts, torch.arange(len(names))[:, None], torch.ones(len(names), 1), positives


def kept_patches(
    videos: Sequence[str], epoch: int, n_patches: int, dropout: float, seed: int
) -> Tensor:
    """Patches (B, P) of each video's frames that are read when the share `dropout` is left out, at least one.

    The same in all frames of a clip, and a function of (seed, epoch, video id) alone.
    """
    n = max(1, round(n_patches * (1 - dropout)))
    rows = [generator("patches", seed, epoch, v).permutation(n_patches)[:n] for v in videos]
    return torch.from_numpy(np.sort(np.stack(rows), 1))


def epochs_decoded_at_once(videos: Sequence[Video], config: TrainConfig, size: int) -> int:
    """How many epochs' clips of `size` pixels come from one decoding: those that fit into 256 MiB, at least one."""
    largest = max(video.width * video.height for video in videos)
    return max(
        1,
        min(
            config.epochs,
            CLIPS_AHEAD // (len(videos) * clip_bytes(config, size)),
            FRAMES_AHEAD // (config.n_frames * 3 * largest),
        ),
    )


def clip_bytes(config: TrainConfig, size: int) -> int:
    """Bytes of one augmented clip."""
    return config.n_frames * 3 * size * size


class Lost:
    """Videos that training can no longer read: left out with a warning, so that one bad file ends no long run.

    More than five of them and more than `max_share` of all `n_videos` raise MaxiError; so must a batch without any
    video, by `too_many`.
    """

    def __init__(self, n_videos: int, max_share: float) -> None:
        self._n_videos, self._max_share = n_videos, max_share
        self._reasons: dict[str, str] = {}  # by path

    def add(self, path: str, reason: str) -> None:
        if path not in self._reasons:
            logger.warning("%s can no longer be read and is left out: %s", path, reason)
        self._reasons[path] = reason
        if len(self._reasons) > max(5, self._max_share * self._n_videos):
            raise self.too_many()

    def too_many(self) -> MaxiError:
        path, reason = next(iter(self._reasons.items()))
        return MaxiError(
            f"{len(self._reasons)} of {self._n_videos} videos can no longer be read, first {path} ({reason}); "
            "check the disk, then add --resume"
        )


def room(n: int, n_frames: int, size: int, device: torch.device) -> Tensor:
    """Place for a batch of clips, to be filled one by one: a list to stack would double the memory."""
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
    """Batches of augmented clips, uint8 (B, T, C, S, S), each file decoded once for some epochs ahead.

    How many epochs is decided by the sizes alone, and is one for a large collection. A video that fails twice in a row
    is lost: see `Lost`.
    """
    by_id = {video.id: video for video in videos}
    size, device = model.backbone.image_size, clip_device(model)
    n_epochs = epochs_decoded_at_once(videos, config, size)
    lost = Lost(len(videos), max_lost)

    def indices(video: Video, epoch: int) -> list[int]:
        return training_indices(video, config.n_frames, seed=seed, epoch=epoch)

    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for block in _blocks(list(steps), n_epochs):
            yield from decoded(block)

    def decoded(steps: Sequence[Step]) -> Iterator[tuple[Step, Tensor]]:
        epochs: dict[str, list[int]] = {}  # of each video, in the order in which they are first met
        for step in steps:
            for bag in step.bags:
                epochs.setdefault(bag.video, []).append(step.epoch)
        requests = [
            Request(by_id[v].path, tuple(i for epoch in of for i in indices(by_id[v], epoch)))
            for v, of in epochs.items()
        ]
        results = decoder.map(requests)
        ready: dict[tuple[str, int], Tensor] = {}
        for step in steps:
            clips = room(len(step.bags), config.n_frames, size, device)
            bags: list[Bag] = []
            for bag in step.bags:
                if of := epochs.pop(bag.video, None):
                    ready |= augmented_clips(bag.video, of, *next(results))
                if (clip := ready.pop((bag.video, step.epoch), None)) is not None:
                    clips[len(bags)] = clip
                    bags.append(bag)
            if not bags:
                raise lost.too_many()
            yield replace(step, bags=tuple(bags)), clips[: len(bags)]

    def augmented_clips(
        video: str, epochs: Sequence[int], asked: Request, frames: Answer | MaxiError
    ) -> dict[tuple[str, int], Tensor]:
        if isinstance(frames, MaxiError):  # a busy machine or disk may answer the next time
            _, frames = next(decoder.map([asked]))
        if not isinstance(frames, np.ndarray):
            lost.add(str(asked.path), str(frames))
            return {}
        return {
            (video, epoch): augmented(
                size,
                part,
                video,
                seed=seed,
                epoch=epoch,
                scales=config.crop_scales,
                device=device,
            )
            for epoch, part in zip(epochs, np.split(frames, len(epochs)), strict=True)
        }

    return batches


def _blocks(steps: Sequence[Step], n_epochs: int) -> Iterator[list[Step]]:
    """The steps of the first `n_epochs` epochs, of the next, ..."""
    for _, block in groupby(steps, key=lambda step: (step.epoch - steps[0].epoch) // n_epochs):
        yield list(block)


def prefetch(items: Iterator[T], ahead: int = 1) -> Iterator[T]:
    """The items, made in a thread that stays at most `ahead` of the reader."""
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
        except BaseException as error:  # handed over to the reader, where it is raised
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
