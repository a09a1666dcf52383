"""Bag: put together the texts of each video, from its match, its phrases and its captions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxi.files import digest
from maxi.method.agreement import near_texts
from maxi.method.bags import build_bags
from maxi.models.text_embeddings import embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.records import Bag, Caption, Journal, Match, Phrases, Video, read_jsonl
from maxi.run import is_current, require, sources_of_bags, write_signed
from maxi.stages.expand import with_files
from maxi.stages.job import Job, bag_videos, embed, fresh_model, videos_key
from maxi.text.clean import with_name
from maxi.text.verbs import VerbParser

logger = logging.getLogger(__name__)


def bag_run(job: Job) -> list[Bag]:
    """Write `bags.jsonl` from matches, phrases and captions, and return its rows."""
    run, bag_config = job.run, job.config.bag
    files = [Path(bag_config.weights)] if bag_config.weights else []
    inputs = {**sources_of_bags(run), "settings": with_files(bag_config.model_dump(), files)}
    second = fresh_model(job.config, bag_config.agree) if bag_config.agree else None
    if second:
        inputs |= {"backbone": job.fingerprint, "agree": second.backbone.fingerprint()}
    if not is_current(run.bags, inputs):
        _make_bags(job, inputs, second)
    bags = read_jsonl(run.bags, Bag)
    n_empty = sum(not b.texts for b in bags)
    if n_empty and not job.config.match.supervised:
        logger.warning(
            "%d of %d bags are empty: their videos train on the name alone", n_empty, len(bags)
        )
    return bags


def _make_bags(job: Job, inputs: dict[str, Any], second: VideoCLIP | None) -> None:
    run, bag_config = job.run, job.config.bag
    videos = {"manifest.jsonl": videos_key(read_jsonl(run.manifest, Video))}
    names = {"actions.txt": digest(job.names())}
    require(run.matches, "match", videos | names)
    require(run.phrases, "expand", names)
    require(run.captions, "caption", videos)
    journal = Journal(run.journal(run.bags), Bag, digest(inputs))
    try:
        kept = [m for m in read_jsonl(run.matches, Match) if m.kept][len(journal.done) :]
        phrases = read_jsonl(run.phrases, Phrases) if bag_config.phrases else []
        captions = read_jsonl(run.captions, Caption) if bag_config.captions else []
        built = build_bags(kept, phrases, captions, VerbParser(), bag_config)
        for bag in job.progress(built, len(kept), "bag"):
            journal.add(bag)
    finally:
        journal.close()
    bags = _agreed(job, journal.done, second) if second else journal.done
    write_signed(run.bags, bags, inputs)
    journal.path.unlink(missing_ok=True)


def _agreed(job: Job, bags: Sequence[Bag], second: VideoCLIP) -> list[Bag]:
    """Return the bags with those texts only that both the backbone and the second model find near the video."""
    config, videos = job.config, bag_videos(job, bags)

    def embeddings_of(
        model: VideoCLIP,
    ) -> tuple[np.ndarray, Callable[[Sequence[str]], np.ndarray]]:
        """Return the embeddings of the videos (B, D), and the function that embeds texts."""
        readable, z_v = embed(job, model, videos, config.match.n_frames)
        by_video = {v.id: z for v, z in zip(readable, z_v, strict=True)}
        # A video that can no longer be read is near to no text.
        unread = np.zeros(z_v.shape[1], np.float32)
        z_videos = np.stack([by_video.get(v.id, unread) for v in videos])
        return z_videos, lambda texts: embed_texts(
            model, [with_name(config.eval.prompt, text) for text in texts]
        ).numpy()

    models = [embeddings_of(job.model()), embeddings_of(second)]
    return near_texts(bags, models, far=config.bag.far, seed=config.seed)
