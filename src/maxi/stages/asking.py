"""Asking: draw videos that people are to be asked about, from what both models answer for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.documents import Asked, Predicted, read_rows
from maxi.errors import MaxiError
from maxi.features.embedding import ONE_VIEW
from maxi.files import csv_text, write_text
from maxi.method.asking import draw, probabilities
from maxi.models.load import saved_spec
from maxi.models.text_embeddings import embed_names
from maxi.records import Video, iterate_jsonl
from maxi.run import Run, contents, require
from maxi.stages.embedding import embed_by, members_of
from maxi.stages.job import Job
from maxi.stages.judgements import append, judged, judged_by


def ask(job: Job, n: int, table: Path) -> int:
    """Write a table of at most `n` drawn videos to ask about, and return their number; see `drawn`.

    Raises MaxiError when the table exists, when all drawn videos are judged already, or when the evaluation is older
    than the training.
    """
    if table.exists():
        raise MaxiError(f"{table} exists, and may hold answers; choose another name")
    _, asked = drawn(job, n)
    if not asked:
        raise MaxiError(
            f"all videos that were drawn for {job.run.folder} are judged; draw more with -n"
        )
    paths = [(str(Path(video.path).resolve()), "") for video in asked]
    write_text(table, [csv_text([("path", "label"), *paths])])
    return len(asked)


def drawn(job: Job, n: int, by: str = "") -> tuple[Sampled, list[Video]]:
    """Return the sample, and at most `n` of its videos to ask about: those drawn before without an answer come first.

    What is drawn anew is noted in the run; of it those are returned that nobody, or with `by` that this judge, has
    answered. Raises MaxiError as `sampled` does.
    """
    run, sample = job.run, sampled(job)
    before, answered = [row["video"] for row in read_rows(run.asked, Asked)], judged(run)
    by_id = {video.id: video for video in sample.videos}
    left = [v for v in dict.fromkeys(before) if v in by_id and v not in answered][:n]
    chances = probabilities(sample.cosines("frozen"), sample.cosines("adapted"))
    places = draw(chances, n - len(left), job.config.seed, len(before))
    new = [{"video": sample.videos[i].id, "probability": float(chances[i])} for i in places]
    append(run.asked, new)
    known = judged_by(run, by) if by else answered
    more = [str(row["video"]) for row in new if row["video"] not in known]
    return sample, [by_id[video] for video in dict.fromkeys([*left, *more])]


class Sampled(NamedTuple):
    """The videos on which both models are compared, and by model their z_v (V, D) and the names' texts z_l (K, D).

    `tau` is the temperature of the adapted model, and `weights` the digest of its weights.
    """

    videos: list[Video]
    z_v: dict[str, NDArray[np.float32]]
    z_l: dict[str, NDArray[np.float32]]
    tau: float
    weights: str

    def cosines(self, kind: str) -> NDArray[np.float32]:
        """Return the cosines (V, K) of a model."""
        return np.asarray(self.z_v[kind] @ self.z_l[kind].T)


def sampled(job: Job, more: Iterable[str] = ()) -> Sampled:
    """Return the videos of the run's predictions, with those of the ids in `more`; stored features are used.

    Raises MaxiError when the evaluation is older than the training.
    """
    run, config = job.run, job.config
    require(run.predictions, "eval", {run.training.name: contents(run.training)})
    wanted = {row["video"] for row in read_rows(run.predictions, Predicted)} | set(more)
    videos = [video for video in iterate_jsonl(run.manifest, Video) if video.id in wanted]
    members = members_of(job, {"frozen": "", "adapted": saved_spec(config.backbone, run.model)})
    videos, z_v = embed_by(
        job, members, videos, config.eval.n_frames, views=ONE_VIEW, label="refine"
    )
    prompts = [config.eval.prompt]
    z_l = {kind: embed_names(one.ready(), job.names(), prompts) for kind, one in members.items()}
    adapted = members["adapted"].model
    tau = 1 / float(adapted.logit_scale.exp())
    return Sampled(videos, z_v, z_l, tau, adapted.backbone.fingerprint())


def weights_of(run: Run) -> dict[str, float]:
    """Return the weights of the judged videos that were drawn: one over the probability, summed over their draws."""
    weights: dict[str, float] = {}
    for row in read_rows(run.asked, Asked):
        weights[row["video"]] = weights.get(row["video"], 0.0) + 1 / row["probability"]
    rows = judged(run)
    return {video: weight for video, weight in weights.items() if video in rows}
