"""Features of augmented clips, computed once, from which a training of the head alone learns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from maxi.config import TrainConfig
from maxi.features.embedding import trunk_digest
from maxi.features.store import FeatureStore
from maxi.features.training_inputs import embed_views
from maxi.files import digest
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress
from maxi.records import Skipped, Video
from maxi.training.batches import Batches
from maxi.training.schedule import Step
from maxi.video.workers import Decoder


def views_key(model: VideoCLIP, config: TrainConfig, seed: int) -> str:
    """Return the key of the store that holds the augmented views for these settings."""
    views = (config.n_views, config.n_frames, config.crop_scales, seed)
    return digest("views", trunk_digest(model.backbone), *views)


def fill_views(
    model: VideoCLIP,
    videos: Sequence[Video],
    decoder: Decoder,
    config: TrainConfig,
    seed: int,
    *,
    folder: Path,
    progress: Progress,
) -> tuple[FeatureStore, list[Skipped]]:
    """Fill the store of views in `folder`, and return it with the videos that can no longer be decoded."""
    store = FeatureStore(folder, views_key(model, config, seed))
    skipped = embed_views(
        model,
        videos,
        store,
        decoder,
        n_views=config.n_views,
        n_frames=config.n_frames,
        seed=seed,
        scales=config.crop_scales,
        progress=progress,
    )
    return store, skipped


def stored_views(store: FeatureStore, n_views: int) -> Batches:
    """Return batches of cached trunk features (B, T, F); epoch e reads view e mod n_views."""

    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for step in steps:
            views = store.gather([bag.video for bag in step.bags])  # (B, n_views, T, F)
            yield step, torch.from_numpy(views[:, step.epoch % n_views])

    return batches
