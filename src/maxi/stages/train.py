"""Improve: train a run's model on its bags, or the control on bags that are dealt out at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxi.documents import Trained, read_document
from maxi.errors import MaxiError
from maxi.features.store import FeatureStore
from maxi.files import digest, file_digest, write_json
from maxi.method.bags import shuffle_bags
from maxi.models.video_clip import VideoCLIP
from maxi.progress import under
from maxi.records import Bag, Match, Video, read_jsonl
from maxi.run import meta_path, signed
from maxi.stages.bag import made_bags
from maxi.stages.cache import fill_cache
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job, fresh_model, n_workers, without
from maxi.training.batches import Batches, decoded_clips
from maxi.training.checkpoints import model_files
from maxi.training.loop import Training
from maxi.training.schedule import Course
from maxi.training.stored_clips import stored_clips
from maxi.training.stored_views import fill_views, stored_views
from maxi.video.frame_store import FrameStore, store_key


def train_run(job: Job, *, control: bool = False) -> dict[str, Any]:
    """Fine-tune on the bags, ensemble with the frozen weights, and write `model/` and `training.json`.

    With `control` the bags are dealt out to the videos at random, and everything goes to `control/`; a gain of such a
    model does not come from the matches. Returns the contents of `training.json`.
    """
    config, run = job.config, job.run.control if control else job.run
    bags = made_bags(job)
    inputs, first = training_inputs(job, bags), job.world.first
    if inputs.made(run.training):
        summary = dict(read_document(run.training, Trained))
        if summary.get("weights") == model_digest(run.model):
            return summary
    job.world.wait()
    if first:
        # These go first, so that they never stand for a model that is only half made.
        run.training.unlink(missing_ok=True)
        meta_path(run.training).unlink(missing_ok=True)
        run.create()
    job.world.wait()
    if control:
        bags = shuffle_bags(bags, config.seed)
    videos = inputs.videos_of(bags)
    job.release()
    model = fresh_model(config)  # not the job's frozen model, since it is trained in place
    batches, store = training_batches(job, model, videos)
    try:
        bags = [b for b in bags if store is None or b.video in store]
        names = inputs.names() if _has_classes(job) else ()
        course = Course(bags, config.train, seed=config.seed, names=names, scores=_scores(job))
        frames = "" if config.cache.format == "none" else store_key(config.cache)
        key = digest(job.fingerprint, frames)
        training = Training(model, course, batches, folder=run.folder, key=key, world=job.world)
        progress = under("train control", job.progress) if control else job.progress
        summary = training.run(progress)
    finally:
        if store:
            store.close()
    summary |= {"videos": len(bags)}
    if first:
        model.save(run.model)
        summary["weights"] = model_digest(run.model)
        with signed(run.training, inputs.key) as file:
            write_json(file, summary)
    job.world.wait()
    return summary


def _scores(job: Job) -> dict[str, float]:
    """Return the score of each video's match where `train.curriculum` needs it, else {}."""
    if job.config.train.curriculum == 1:
        return {}
    return {m.video: m.score for m in read_jsonl(job.run.matches, Match)}


def _has_classes(job: Job) -> bool:
    """Return whether the action names are the classes of the objective."""
    return job.config.train.objective == "cross_entropy"


def training_inputs(job: Job, bags: Sequence[Bag]) -> Inputs:
    """Return all inputs on which the trained weights depend; `bags` are those of the run."""
    inputs = Inputs(job)
    inputs.tables(job.run.bags)
    inputs.videos_of(bags)
    inputs.settings("train")
    inputs.settings("seed")
    inputs.backbone()
    if inputs.settings("cache.format") != "none":
        inputs.settings("cache")
    inputs.note("scores", sorted(_scores(job).items()))
    if _has_classes(job):
        inputs.names()
    return inputs


def model_digest(folder: Path) -> str:
    """Return the digest of a saved model's weights; empty when there is no model."""
    return digest([file_digest(p) for p in model_files(folder)]) if folder.is_dir() else ""


def training_batches(
    job: Job, model: VideoCLIP, videos: Sequence[Video]
) -> tuple[Batches, FeatureStore | FrameStore | None]:
    """Return what turns steps into inputs, and the filled store that these come from, None where there is none.

    Raises MaxiError when the head is to be trained in several processes.
    """
    train_config, seed = job.config.train, job.config.seed
    if job.config.cache.format != "none":
        frames = fill_cache(job, videos)
        n_threads = n_workers(job.config)
        return stored_clips(model, videos, frames, train_config, seed, n_threads=n_threads), frames
    if train_config.trainable != "head":
        return decoded_clips(model, videos, job.decoder, train_config, seed), None
    if job.world.size > 1:
        raise MaxiError(
            "`trainable: head` trains on cached features in one process; leave out torchrun"
        )
    store, failed = fill_views(
        model,
        videos,
        job.decoder,
        train_config,
        seed,
        folder=job.run.features,
        progress=job.progress,
    )
    without(job, videos, failed)
    return stored_views(store, train_config.n_views), store
