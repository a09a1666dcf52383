"""What training reads of a video: its random frames, augmented, as clips or as features of augmented views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxi.features.embedding import Frames, fill_store, to_pixels
from maxi.features.store import FeatureStore
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress
from maxi.randomness import generator
from maxi.records import Skipped, Video
from maxi.video.decode import tsn_indices
from maxi.video.transforms import SCALES, train_transform
from maxi.video.workers import Decoder


def training_indices(video: Video, n_frames: int, *, seed: int, epoch: int) -> list[int]:
    """Frames of one training clip: one random frame in each of `n_frames` segments."""
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
    """Decoded frames (T, H, W, 3) -> uint8 (T, 3, size, size), augmented by a draw of (seed, epoch, video).

    On `device`, or on the CPU when that has no room: training, not a clip of 4K, is to fill a GPU.
    """
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)

    def on(place: torch.device | str) -> Tensor:
        draw = generator("augment", seed, epoch, video)
        return train_transform(images.to(place), size, draw, scales)

    try:
        return on(device)
    except torch.OutOfMemoryError:
        return on("cpu")


def clip_device(model: VideoCLIP) -> torch.device:
    """Where clips are augmented: on the model's GPU, or on the CPU, since `mps` lacks antialiased resizing."""
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
    """Fill the store with trunk features (n_views, T, F) of augmented clips; each file is decoded once."""

    def indices(video: Video) -> list[int]:
        views = range(n_views)
        return [i for k in views for i in training_indices(video, n_frames, seed=seed, epoch=k)]

    def row(frames: Frames, video: Video) -> Tensor:
        views = frames.reshape(n_views, n_frames, *frames.shape[1:])
        size, device = model.backbone.image_size, clip_device(model)
        clips = [
            augmented(size, x, video.id, seed=seed, epoch=k, scales=scales, device=device)
            for k, x in enumerate(views)
        ]
        return torch.stack([model.video_trunk(to_pixels(model, clip)[None])[0] for clip in clips])

    return fill_store(videos, store, decoder, indices, row, "augmented views", progress)
