"""Embedding: the embeddings of videos by one or several models, computed once and kept in the store of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from maxi.features.embedding import (
    ONE_VIEW,
    Filler,
    embedder,
    embeddings,
    fill_stores,
    trunk_digest,
)
from maxi.features.store import FeatureStore
from maxi.files import digest
from maxi.models.video_clip import VideoCLIP
from maxi.progress import under
from maxi.records import Video
from maxi.stages.job import Job, fresh_model, without
from maxi.video.decode import clip_indices


class Member(NamedTuple):
    """One of several models that embed the same videos.

    `spec` says in words which it is, and `about` how it came about. Where several share the memory of one model,
    `become` gives it the weights.
    """

    spec: str
    model: VideoCLIP
    become: Callable[[], object] | None = None
    about: Mapping[str, Any] = MappingProxyType({})

    def ready(self) -> VideoCLIP:
        """Return the model with its weights."""
        if self.become:
            self.become()
        return self.model


def members_of(
    job: Job, specs: Mapping[str, str], about: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Member]:
    """Load several models, which are in memory together; `about` says of some how they came about."""
    job.release()
    return {
        kind: Member(spec, fresh_model(job.config, spec), about=(about or {}).get(kind, {}))
        for kind, spec in specs.items()
    }


def embed(
    job: Job, model: VideoCLIP, videos: Sequence[Video], n_frames: int
) -> tuple[list[Video], np.ndarray]:
    """Return the videos that still decode, and their z_v (V, D), computed once and kept in the store."""
    kept, of_models = embed_by(
        job, {"": Member("", model)}, videos, n_frames, views=ONE_VIEW, label="embed"
    )
    return kept, of_models[""]


def embed_by(
    job: Job,
    members: Mapping[str, Member],
    videos: Sequence[Video],
    n_frames: int,
    *,
    views: tuple[int, int],
    label: str,
) -> tuple[list[Video], dict[str, np.ndarray]]:
    """Return the videos that still decode, and their z_v (V, D) by each model; each video is decoded once for all.

    What is computed is kept in the store. Where only the head is trained, features before the head are stored, so that
    all models of a run share them; but not of several `views`. `label` is that of the progress.
    """
    trunk = job.config.train.trainable == "head" and views == ONE_VIEW
    of_views = () if views == ONE_VIEW else views
    stores: dict[str, FeatureStore] = {}
    fillers: dict[str, Filler] = {}
    keys: dict[str, str] = {}
    with ExitStack() as opened:
        for kind, member in members.items():
            backbone = member.ready().backbone
            of_model = trunk_digest(backbone) if trunk else backbone.fingerprint()
            key = keys[kind] = digest("segments", of_model, n_frames, trunk, *of_views)
            if key not in stores:  # two models may be one
                stores[key] = opened.enter_context(closing(FeatureStore(job.run.features, key)))
                row = embedder(member.model, trunk=trunk, views=views)
                fillers[key] = Filler(stores[key], row, member.become)
        failed = fill_stores(
            videos,
            list(fillers.values()),
            job.decoder,
            lambda video: list(chain(*clip_indices(video.n_frames, n_frames, views[0]))),
            "embed",
            under(label, job.progress),
        )
        kept = without(job, videos, failed)
        ids = [video.id for video in kept]
        return kept, {
            kind: embeddings(member.ready(), stores[keys[kind]], ids, trunk=trunk)
            for kind, member in members.items()
        }
