"""Match: find the nearest action name of each video of a run, and keep the confident share of the matches (Eq. 1)."""

from __future__ import annotations

import logging

from maxi.files import digest
from maxi.method import matching
from maxi.models.text_embeddings import embed_names
from maxi.records import Match, Video, read_jsonl
from maxi.run import is_current, write_signed
from maxi.stages.job import Job, embed, videos_key

logger = logging.getLogger(__name__)


def match_run(job: Job) -> list[Match]:
    """Write `matches.jsonl`, in which the frozen model matches every video to its nearest name (Eq. 1).

    With `match.supervised` the videos' own labels are the matches. Returns the rows.
    """
    run, config = job.run, job.config
    videos, names = read_jsonl(run.manifest, Video), job.names()
    inputs = {
        "manifest.jsonl": videos_key(videos),
        "actions.txt": digest(names),
        "backbone": job.fingerprint,
        "settings": config.match.model_dump(),
    }
    if config.match.supervised:
        inputs["labels"] = digest([[v.label for v in videos], config.seed])
    if is_current(run.matches, inputs):
        return read_jsonl(run.matches, Match)
    if config.match.supervised:
        rows = matching.by_labels(videos, names, config.match.shots, config.seed)
        write_signed(run.matches, rows, inputs)
        return rows
    model = job.model()
    z_l = embed_names(model, names, config.match.templates)
    videos, z_v = embed(job, model, videos, config.match.n_frames)
    rows = matching.match(
        [v.id for v in videos],
        z_v,
        names,
        z_l,
        keep=config.match.keep,
        per_name=config.match.per_name,
        top_k=config.match.top_k,
        tau=config.match.tau,
    )
    write_signed(run.matches, rows, inputs)
    for warning in matching.warnings(rows, names):
        logger.warning(warning)
    return rows
