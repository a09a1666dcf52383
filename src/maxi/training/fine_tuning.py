"""Fine-tune a model from Python, with bags and their videos in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress, bar
from maxi.records import Bag, Video
from maxi.settings import load_config
from maxi.training.batches import decoded_clips
from maxi.training.loop import Training
from maxi.training.schedule import Course
from maxi.training.stored_views import fill_views, stored_views
from maxi.video.workers import Decoder


def train(
    model: VideoCLIP,
    bags: Sequence[Bag],
    videos: Sequence[Video],
    config: TrainConfig | None = None,
    *,
    folder: str | Path,
    seed: int = 0,
    names: Sequence[str] = (),
    scores: Mapping[str, float] | None = None,
    progress: Progress = bar,
) -> dict[str, Any]:
    """Fine-tune `model` in place on bags of texts (section 3.3, Eq. 2), and return a summary of the training.

    Each step draws a clip (T, C, S, S) of every video of the batch and at most N_bag texts of its bag, and contrasts
    them by `config.objective`. In the end the weights are ensembled with the original ones (section 4.2). `videos`
    holds the videos of the bags, and may hold others. `config` is by default the recipe for the model's backbone.
    `names` are the classes of `cross_entropy`, by default the names of the bags. `scores` are the scores of the
    matches by video id, and are needed for `config.curriculum`.

    Checkpoints and `train.jsonl` are written into `folder`; each row of `train.jsonl` holds the loss, learning rate
    and seconds of a step. After a break, the same call goes on from the last checkpoint and ends with the same weights
    as without the break.

    Raises MaxiError when fewer than two bags are given, a bag's video is not among `videos` or has two bags, too many
    videos can no longer be read, the settings ask for something that the backbone lacks, the loss, a gradient or a
    weight is not finite, or a checkpoint cannot be written.
    """
    config = config or load_config(backbone=model.backbone.kind).train
    by_id, folder = {video.id: video for video in videos}, Path(folder)
    if unknown := [bag.video for bag in bags if bag.video not in by_id]:
        raise MaxiError(
            f"the videos of {len(unknown)} bags are not given, first {unknown[0]!r}; "
            "add them to `videos`"
        )
    videos, key = [by_id[bag.video] for bag in bags], model.backbone.fingerprint()
    with ExitStack() as stack:
        decoder = stack.enter_context(Decoder())
        if config.trainable == "head":
            view_folder = folder / "features"
            store, _ = fill_views(
                model, videos, decoder, config, seed, folder=view_folder, progress=progress
            )
            stack.callback(store.close)
            bags = [bag for bag in bags if bag.video in store]
            batches = stored_views(store, config.n_views)
        else:
            batches = decoded_clips(model, videos, decoder, config, seed)
        course = Course(bags, config, seed=seed, names=names, scores=scores)
        return Training(model, course, batches, folder=folder, key=key).run(progress)
