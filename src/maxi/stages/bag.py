"""Bag: put together the texts of each video, from its match, its phrases and its captions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from maxi.errors import MaxiError
from maxi.files import digest, given_path
from maxi.method.agreement import near_texts
from maxi.method.bags import build_bags
from maxi.models.text_embeddings import embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.records import Bag, Caption, Journal, Match, Phrases, read_jsonl
from maxi.run import require, write_signed
from maxi.stages.caption import caption_inputs
from maxi.stages.embedding import embed
from maxi.stages.expand import expand_inputs
from maxi.stages.inputs import Inputs, bag_videos
from maxi.stages.job import Job
from maxi.stages.match import match_inputs
from maxi.text.clean import with_name
from maxi.text.verbs import VerbParser, parser_version

logger = logging.getLogger(__name__)


def bag_run(job: Job) -> list[Bag]:
    """Write `bags.jsonl` from matches, phrases and captions, and return its rows."""
    run, inputs = job.run, bag_inputs(job)
    config = inputs.settings("bag")
    require(run.matches, "match", match_inputs(job).key)
    require(run.phrases, "expand", expand_inputs(job).key)
    require(run.captions, "caption", caption_inputs(job).key)
    inputs.files(*([given_path(config.weights)] if config.weights else []))
    second = inputs.second_model(config.agree) if config.agree else None
    if second:
        inputs.backbone()
    if not inputs.made(run.bags):
        _make_bags(job, inputs, second)
    bags = read_jsonl(run.bags, Bag)
    n_empty = sum(not b.texts for b in bags)
    if n_empty and not job.config.match.supervised:
        logger.warning(
            "%d of %d bags are empty: their videos train on the name alone", n_empty, len(bags)
        )
    return bags


def bag_inputs(job: Job) -> Inputs:
    """Return what `bag` reads, except models and the file of weights."""
    inputs = Inputs(job)
    inputs.tables(job.run.matches, job.run.phrases, job.run.captions)
    inputs.note("parser", parser_version())
    if inputs.settings("bag").agree:
        inputs.videos()
        for setting in ("match.n_frames", "eval.prompt", "seed"):
            inputs.settings(setting)
    return inputs


def made_bags(job: Job) -> list[Bag]:
    """Read the run's bags. Raises MaxiError when there are none, or they are older than what they were made from."""
    require(job.run.bags, "bag", bag_inputs(job).key)
    if not (bags := read_jsonl(job.run.bags, Bag)):
        raise MaxiError(f"{job.run.bags} holds no bags; keep more matches, or rerun `maxi bag`")
    return bags


def _make_bags(job: Job, inputs: Inputs, second: VideoCLIP | None) -> None:
    run, config = job.run, inputs.settings("bag")
    journal = Journal(run.journal(run.bags), Bag, digest(inputs.key))
    try:
        kept = [m for m in read_jsonl(run.matches, Match) if m.kept][len(journal.done) :]
        phrases = read_jsonl(run.phrases, Phrases) if config.phrases else []
        captions = read_jsonl(run.captions, Caption) if config.captions else []
        built = build_bags(kept, phrases, captions, VerbParser(), config)
        for bag in job.progress(built, len(kept), "bag"):
            journal.add(bag)
    finally:
        journal.close()
    bags = _agreed(job, journal.done, second) if second else journal.done
    write_signed(run.bags, bags, inputs.used())
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
