"""Batches of clips from stored frames, for which no video has to be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat

from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.features.training_inputs import augmented, clip_device, training_indices
from maxi.models.video_clip import VideoCLIP
from maxi.records import Bag, Video
from maxi.training.batches import Batches, Lost, room
from maxi.training.schedule import Step
from maxi.video.frame_store import FrameStore


def stored_clips(
    model: VideoCLIP,
    videos: Sequence[Video],
    store: FrameStore,
    config: TrainConfig,
    seed: int,
    *,
    n_threads: int,
    max_lost: float = 0.05,
) -> Batches:
    """Return batches of augmented clips, uint8 (B, T, C, S, S), from stored frames, with the draws of `decoded_clips`.

    A video whose frames are damaged is lost, see `Lost`.
    """
    by_id = {video.id: video for video in videos}
    size, device = model.backbone.image_size, clip_device(model)
    augment = partial(augmented, size, seed=seed, scales=config.crop_scales, device=device)
    lost = Lost(len(videos), max_lost)

    def read_clip(bag: Bag, epoch: int, clip: Tensor) -> MaxiError | None:
        """Fill `clip` with the clip of a bag's video, or return the error that prevents it."""
        stored_video = replace(by_id[bag.video], n_frames=store.n_frames(bag.video))
        indices = training_indices(stored_video, config.n_frames, seed=seed, epoch=epoch)
        try:
            frames = store.read(bag.video, indices)
        except MaxiError as error:
            return error
        clip[:] = augment(frames, bag.video, epoch=epoch)
        return None

    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        with ThreadPoolExecutor(n_threads, thread_name_prefix="maxi-frames") as pool:
            for step in steps:
                clips = room(len(step.bags), config.n_frames, size, device)
                errors = list(pool.map(read_clip, step.bags, repeat(step.epoch), clips))
                for bag, error in zip(step.bags, errors, strict=True):
                    if error:
                        lost.add(by_id[bag.video].path, str(error))
                kept = [i for i, error in enumerate(errors) if error is None]
                if not kept:
                    raise lost.too_many()
                if len(kept) < len(errors):
                    step, clips = replace(step, bags=tuple(step.bags[i] for i in kept)), clips[kept]
                yield step, clips

    return batches
