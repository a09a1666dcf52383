"""Match: find the nearest action name of each video of a run, and keep the confident share of the matches (Eq. 1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from maxi.config import MatchConfig
from maxi.datasets.files import read_matches
from maxi.documents import Trained, read_document
from maxi.errors import MaxiError
from maxi.files import given_path
from maxi.method import matching, mixture, shares
from maxi.models.load import saved_spec
from maxi.models.text_embeddings import embed_names
from maxi.models.video_clip import VideoCLIP
from maxi.records import Match, Video, read_jsonl
from maxi.run import write_signed
from maxi.stages.embedding import embed
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job

logger = logging.getLogger(__name__)

NO_FILE = ("unknown", "even", "estimated")


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

    With `match.supervised` the videos' own labels are the matches, and with `match.file` those of a list. Returns the
    rows.
    """
    run, inputs = job.run, match_inputs(job)
    videos, names, config = inputs.videos(), inputs.names(), inputs.settings("match")
    if config.file:
        inputs.files(given_path(config.file))
        inputs.note("paths", [v.path for v in videos])
    if config.shares not in NO_FILE:
        inputs.files(given_path(config.shares))
    if config.rounds > 1:
        inputs.note("the round before", _model_before(job))
    model = None if config.supervised or config.file else inputs.backbone()
    if inputs.made(run.matches):
        return read_jsonl(run.matches, Match)
    if model:
        rows = _nearest(job, model, videos, names)
    elif config.file:
        rows = read_matches(given_path(config.file), names, videos)
        if len(rows) < len(videos):
            logger.warning(
                "%d of %d videos are not in %s and are left out",
                *(len(videos) - len(rows), len(videos), config.file),
            )
    else:
        rows = matching.by_labels(videos, names, config.shots, inputs.settings("seed"))
    write_signed(run.matches, rows, inputs.used())
    if model:
        for warning in matching.warnings(rows, names):
            logger.warning(warning)
    return rows


def _nearest(
    job: Job, model: VideoCLIP, videos: Sequence[Video], names: Sequence[str]
) -> list[Match]:
    """Match each video that still decodes to its nearest name."""
    config = job.config.match
    if config.rounds > 1:
        before = job.run.round(config.rounds - 1).model
        model = job.model_of(saved_spec(job.config.backbone, before))
    z_l = embed_names(model, names, config.templates)
    readable, z_v = embed(job, model, videos, config.n_frames)
    linear = None
    if config.shares != "unknown":
        linear = _linear(config, names, z_v, z_l)
    if few := shares.warning(z_v, z_l, config.tau):
        logger.warning(few)
    return matching.match(
        [v.id for v in readable],
        z_v,
        names,
        z_l,
        keep=config.keep,
        per_name=config.per_name,
        top_k=config.top_k,
        tau=config.tau,
        margin=config.confidence == "margin",
        linear=linear,
    )


def _linear(
    config: MatchConfig, names: Sequence[str], z_v: np.ndarray, z_l: np.ndarray
) -> mixture.Linear:
    """Return what decides between names of which shares are known, or estimated."""
    if config.shares == "estimated":
        return mixture.fit(z_v, z_l, config.tau)
    return mixture.Linear(z_l.T, shares.balance(z_v, z_l, wanted_shares(config, names), config.tau))


def wanted_shares(config: MatchConfig, names: Sequence[str]) -> np.ndarray:
    """Return the shares of the names (K,) that `match.shares` states, even ones where it names no file.

    Raises MaxiError when the file does not fit the names.
    """
    if config.shares in NO_FILE:
        return np.full(len(names), 1 / len(names))
    return shares.read_shares(given_path(config.shares), names)


def _model_before(job: Job) -> str:
    """Return the digest of the model that the round before this one trained. Raises MaxiError when it is not there."""
    before = job.run.round(job.config.match.rounds - 1)
    if not before.training.is_file():
        raise MaxiError(
            f"{before.folder} holds no trained model, with which the videos are matched anew; run `maxi adapt` with "
            "--resume, which trains it"
        )
    return str(read_document(before.training, Trained)["weights"])
