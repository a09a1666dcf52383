"""Match: find the nearest action name of each video of a run, and keep the confident share of the matches (Eq. 1)."""

from __future__ import annotations

import logging

from maxi.method import matching
from maxi.models.text_embeddings import embed_names
from maxi.records import Match, read_jsonl
from maxi.run import write_signed
from maxi.stages.embedding import embed
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job

logger = logging.getLogger(__name__)


def match_inputs(job: Job) -> Inputs:
    """Return what `match` reads, except the backbone."""
    inputs = Inputs(job)
    inputs.names()
    videos = inputs.videos()
    if inputs.settings("match").supervised:
        inputs.settings("seed")
        inputs.note("labels", [v.label for v in videos])
    return inputs


def match_run(job: Job) -> list[Match]:
    """Write `matches.jsonl`, in which the frozen model matches every video to its nearest name (Eq. 1).

    With `match.supervised` the videos' own labels are the matches. Returns the rows.
    """
    run, inputs = job.run, match_inputs(job)
    videos, names, config = inputs.videos(), inputs.names(), inputs.settings("match")
    model = None if config.supervised else inputs.backbone()
    if inputs.made(run.matches):
        return read_jsonl(run.matches, Match)
    if model is None:
        rows = matching.by_labels(videos, names, config.shots, inputs.settings("seed"))
        write_signed(run.matches, rows, inputs.key)
        return rows
    z_l = embed_names(model, names, config.templates)
    videos, z_v = embed(job, model, videos, config.n_frames)
    rows = matching.match(
        [v.id for v in videos],
        z_v,
        names,
        z_l,
        keep=config.keep,
        per_name=config.per_name,
        top_k=config.top_k,
        tau=config.tau,
    )
    write_signed(run.matches, rows, inputs.used())
    for warning in matching.warnings(rows, names):
        logger.warning(warning)
    return rows
