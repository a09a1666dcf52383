"""Baselines in a run: train one on the true names of a run's videos, and let it answer for labelled videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from maxi.baselines.baseline import Baseline
from maxi.baselines.table import BASELINES
from maxi.baselines.training import train_baseline
from maxi.config import Config, TrainConfig
from maxi.errors import MaxiError, choose
from maxi.features.embedding import Filler, Frames, fill_stores, prepare
from maxi.features.store import FeatureStore
from maxi.files import digest
from maxi.method.expansion import expand
from maxi.models.clip import Clip
from maxi.models.saving import tensors_digest
from maxi.progress import under
from maxi.records import Bag, Video, read_jsonl
from maxi.stages.expand import expansion_context
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, fresh_model, without
from maxi.text.clean import KINETICS_TEMPLATES
from maxi.training.batches import decoded_clips
from maxi.training.schedule import Course
from maxi.video.decode import clip_indices


def trained(job: Job, kind: str, names: Sequence[str], truth: Mapping[str, str]) -> Baseline:
    """Return a baseline that is trained on the run's videos and their true names, by video id; see `train_baseline`.

    `names` are all those that it is ever asked for. Videos that show none of the run's names are left out. Raises
    MaxiError for a backbone without the two towers of a CLIP.
    """
    config, listed = job.config, job.names()
    baseline = _new(job, kind, [*listed, *names])
    if baseline.trainable is None and not baseline.learning():
        return baseline
    videos = [v for v in read_jsonl(job.run.manifest, Video) if truth.get(v.id) in listed]
    bags = [Bag(v.id, truth[v.id], ()) for v in videos]
    settings = {"objective": "cross_entropy", "contrast": None, "text_to_video": False}
    train = TrainConfig.model_validate({**config.train.model_dump(), **settings})
    course = Course(bags, train, seed=config.seed, names=listed)
    batches = decoded_clips(baseline.clip, videos, job.decoder, train, config.seed)
    key = digest(_key(job, kind), train.decisive(), course.digest(), videos_key(videos))
    folder = job.run.checkpoints / kind
    train_baseline(baseline, course, batches, folder, key, under(kind, job.progress))
    return baseline.eval()


def scores_of(
    job: Job, baseline: Baseline, videos: Sequence[Video], names: Sequence[str]
) -> tuple[list[Video], np.ndarray]:
    """Return the videos that still decode, and the baseline's cosines with the names, (V, K); they are kept on disk."""
    n_frames = job.config.eval.n_frames
    what = digest(
        type(baseline).__name__, n_frames, list(names), baseline.prompts, baseline.phrases
    )
    key = tensors_digest(baseline.state_dict(), what)
    with torch.inference_mode():
        z_t = baseline.encode_names(names)

    def row(frames: Frames, _: Video) -> Tensor:
        pixels = prepare(baseline.clip, frames)[None]
        return baseline.cosines(baseline.encode_video(pixels), z_t)[0]

    with closing(FeatureStore(job.run.features, key)) as store:
        failed = fill_stores(
            videos,
            [Filler(store, row)],
            job.decoder,
            lambda video: list(chain(*clip_indices(video.n_frames, n_frames, 1))),
            "embed",
            job.progress,
        )
        kept = without(job, videos, failed)
        return kept, store.gather([video.id for video in kept])


def _new(job: Job, kind: str, names: Sequence[str]) -> Baseline:
    """Make an untrained baseline; what is random in it depends on the seed alone."""
    config = job.config
    clip = fresh_model(config)
    if not isinstance(clip.backbone, Clip):
        raise MaxiError(
            f"baselines need the two towers of a CLIP, which {config.backbone} has not; "
            "pass --backbone clip:..."
        )
    rows = expand(
        list(dict.fromkeys(names)),
        config.expand.expander,
        config.expand.n_phrases,
        context=expansion_context(job),
    )
    phrases = {row.name: row.texts for row in rows}
    make = choose(BASELINES, kind, "baseline")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        baseline = make(clip, _prompts(config, kind), phrases)
    return baseline.to(clip.device).eval()


def _prompts(config: Config, kind: str) -> list[str]:
    """Return the prompts of a name: many for frozen CLIP, and the test prompt for all others."""
    if kind == "frozen":
        return list(config.match.templates or KINETICS_TEMPLATES)
    return [config.eval.prompt]


def _key(job: Job, kind: str) -> str:
    config = job.config
    return digest(kind, job.fingerprint, config.seed, config.expand.model_dump(mode="json"))
