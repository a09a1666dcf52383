"""The inputs of training: random frames of a video, augmented, as clips or as features of augmented views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maxi.features.embedding import Filler, Frames, fill_stores, to_pixels
from maxi.features.store import FeatureStore
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress
from maxi.randomness import generator
from maxi.records import Skipped, Video
from maxi.video.decode import tsn_indices
from maxi.video.transforms import SCALES, train_transform
from maxi.video.workers import Decoder


def training_indices(video: Video, n_frames: int, *, seed: int, epoch: int) -> list[int]:
    """Return the frame indices of one training clip: one random frame in each of `n_frames` segments."""
    return tsn_indices(video.n_frames, n_frames, generator("frames", seed, epoch, video.id))


def augmented(
    size: int,
    frames: Frames,
    video: str,
    *,
    seed: int,
    epoch: int,
    scales: Sequence[float] = SCALES,
    device: torch.device,
) -> Tensor:
    """Augment decoded frames (T, H, W, 3) by a draw of (seed, epoch, video): uint8 (T, 3, size, size).

    This is done on `device`, or on the CPU when the device has no room: one clip in 4K must not stop a training that
    fills the GPU.
    """
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)

    def augment_on(place: torch.device | str) -> Tensor:
        draw = generator("augment", seed, epoch, video)
        return train_transform(images.to(place), size, draw, scales)

    try:
        return augment_on(device)
    except torch.OutOfMemoryError:
        return augment_on("cpu")


def clip_device(model: VideoCLIP) -> torch.device:
    """Return where clips are augmented: on the model's GPU, otherwise on the CPU, since `mps` cannot antialias."""
    return model.device if model.device.type == "cuda" else torch.device("cpu")


def embed_views(
    model: VideoCLIP,
    videos: Sequence[Video],
    store: FeatureStore,
    decoder: Decoder,
    *,
    n_views: int,
    n_frames: int,
    seed: int,
    scales: Sequence[float] = SCALES,
    progress: Progress,
) -> list[Skipped]:
    """Store the trunk features (n_views, T, F) of augmented clips of each video; each file is decoded once.

    View v is the clip of epoch v. Returns the videos that can no longer be decoded.
    """

    def indices(video: Video) -> list[int]:
        return [
            index
            for view in range(n_views)
            for index in training_indices(video, n_frames, seed=seed, epoch=view)
        ]

    def row(frames: Frames, video: Video) -> Tensor:
        size, device = model.backbone.image_size, clip_device(model)
        clips = [
            augmented(size, part, video.id, seed=seed, epoch=view, scales=scales, device=device)
            for view, part in enumerate(np.split(frames, n_views))
        ]
        return torch.stack([model.video_trunk(to_pixels(model, clip)[None])[0] for clip in clips])

    return fill_stores(videos, [Filler(store, row)], decoder, indices, "augmented views", progress)
