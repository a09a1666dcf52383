"""Asking: draw videos that people are to be asked about, and estimate from their answers how right both models are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.documents import Asked, Predicted, read_rows
from maxi.errors import MaxiError
from maxi.features.embedding import ONE_VIEW
from maxi.files import csv_text, write_text
from maxi.method.asking import accuracy, difference, draw, probabilities, what_more_tells
from maxi.method.refinement import FEWEST
from maxi.models.load import saved_spec
from maxi.models.text_embeddings import embed_names
from maxi.records import Video, iterate_jsonl
from maxi.run import Run, contents, require
from maxi.stages.embedding import embed_by, members_of
from maxi.stages.job import Job
from maxi.stages.judgements import append, judged, judged_by
from maxi.text.names import same

TOLD = ("name", "none")  # kinds of answers that say what a video shows


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
    rows = [(str(Path(video.path).resolve()), "", video.start, video.end) for video in asked]
    if all(video.start is None for video in asked):
        write_text(table, [csv_text([("path", "label"), *(row[:2] for row in rows)])])
    else:
        whole = [tuple("" if cell is None else cell for cell in row) for row in rows]
        write_text(table, [csv_text([("path", "label", "start", "end"), *whole])])
    return len(asked)


def drawn(job: Job, n: int, by: str = "") -> tuple[Sampled, list[Video]]:
    """Return the sample, and at most `n` of its videos to ask about, see `to_ask`; raises as `sampled` does."""
    sample = sampled(job)
    return sample, to_ask(job, sample, n, by)


def to_ask(job: Job, sample: Sampled, n: int, by: str = "") -> list[Video]:
    """Return at most `n` videos of a sample to ask about: those drawn before without an answer come first.

    What is drawn anew is noted in the run; of it those are returned that nobody, or with `by` that this judge, has
    answered.
    """
    run, left = job.run, undecided(job.run, sample)[:n]
    n_before = len(read_rows(run.asked, Asked))
    chances = probabilities(sample.cosines("frozen"), sample.cosines("adapted"))
    places = draw(chances, n - len(left), job.config.seed, n_before)
    new = [sample.videos[i] for i in places]
    append(
        run.asked,
        [
            {"video": video.id, "probability": float(chances[i])}
            for i, video in zip(places, new, strict=True)
        ],
    )
    known = judged_by(run, by) if by else judged(run)
    more = [video for video in new if video.id not in known]
    return list(dict.fromkeys([*left, *more]))


def undecided(run: Run, sample: Sampled) -> list[Video]:
    """Return the videos of a sample that were drawn and that nobody has answered, in the order of their draws."""
    answered, by_id = judged(run), {video.id: video for video in sample.videos}
    before = dict.fromkeys(row["video"] for row in read_rows(run.asked, Asked))
    return [by_id[v] for v in before if v in by_id and v not in answered]


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

    def cosines_of(self, kind: str, place: int) -> NDArray[np.float32]:
        """Return the cosines (K,) of a model with the video in this place."""
        return np.asarray(self.z_l[kind] @ self.z_v[kind][place])


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


def estimate(
    rows: Mapping[str, dict[str, Any]],
    weights: Mapping[str, float],
    sample: Sampled,
    names: Sequence[str],
) -> dict[str, Any] | None:
    """Return an `Estimate` of both models, as they are without refinement; None where hardly a video was drawn.

    `rows` are the judgements by video, and `weights` those of `weights_of`. A video that shows none of the names is
    recognised by neither.
    """
    videos = sample.videos
    told = [
        i
        for i, video in enumerate(videos)
        if video.id in weights and video.id in rows and rows[video.id]["kind"] in TOLD
    ]
    if len(told) < FEWEST:
        return None
    of_each = np.array([weights[videos[i].id] for i in told])
    truth = [same(rows[videos[i].id]["answer"]) for i in told]
    keys = [same(name) for name in names]
    right = {}
    for kind in sample.z_v:
        best = sample.cosines(kind)[told].argmax(1)
        right[kind] = np.array([keys[k] == key for k, key in zip(best, truth, strict=True)])
    adapted = accuracy(right["adapted"], of_each)
    return {
        "n": len(told),
        "frozen": list(accuracy(right["frozen"], of_each)),
        "adapted": list(adapted),
        "difference": list(difference(right["adapted"], right["frozen"], of_each)),
        "more": what_more_tells(len(told), *adapted[1:]),
    }


def weights_of(run: Run) -> dict[str, float]:
    """Return the weights of the judged videos that were drawn: one over the probability, summed over their draws.

    Draws behind the last one that brought a new answer are still open, and are left out from the first that has none:
    of these, videos that were answered before would be counted once more, and the others not yet.
    """
    answered, draws = judged(run), read_rows(run.asked, Asked)
    first = {row["video"]: place for place, row in reversed(list(enumerate(draws)))}
    last = max((place for video, place in first.items() if video in answered), default=-1)
    weights: dict[str, float] = {}
    for place, row in enumerate(draws):
        if row["video"] in answered:
            weights[row["video"]] = weights.get(row["video"], 0.0) + 1 / row["probability"]
        elif place > last:
            break
    return weights
