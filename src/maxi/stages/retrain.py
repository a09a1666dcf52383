"""Retrain: correct the matches of a run by what its answers tell, and train again from the frozen model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxi.errors import MaxiError
from maxi.files import write_json
from maxi.method import refinement as method
from maxi.method.metrics import with_interval
from maxi.method.mixture import Answers
from maxi.method.shares import soft
from maxi.models.text_embeddings import embed_names
from maxi.progress import under
from maxi.randomness import generator
from maxi.records import Match, Video, read_jsonl, write_jsonl
from maxi.run import Run
from maxi.stages.asking import sampled, weights_of
from maxi.stages.bag import bag_run
from maxi.stages.branch import branch
from maxi.stages.caption import caption_run
from maxi.stages.embedding import embed
from maxi.stages.evaluate import evaluate_run
from maxi.stages.expand import expand_run
from maxi.stages.job import Job, open_job
from maxi.stages.judgements import judged
from maxi.stages.refine import answers_of, compared, measured_errors, too_few
from maxi.stages.report import report_run
from maxi.stages.train import train_run
from maxi.text.names import same

SURE = 0.5  # probability from which the refined model's answer replaces a match
ANSWERS = "answers"


class Known(NamedTuple):
    """What a run knows: its videos and their features z_v (V, D) by the adapted model, z_l (K, D), and its answers."""

    videos: list[Video]
    z_v: np.ndarray
    z_l: np.ndarray
    tau: float
    names: list[str]
    rows: Mapping[str, dict[str, Any]]
    answers: Answers


def retrain_run(job: Job, folds: int = 2) -> dict[str, Any]:
    """Train a model on matches that the answers correct; it lies in the run's `retrained/`, a run of its own.

    With `folds`, as many further models are trained, each without a part of the answers, which it is measured on: none
    has learnt from an answer that judges it. Returns the figures of `retrained.json`. A call after a break goes on
    where it was. Raises MaxiError when too few videos are answered.
    """
    known = _known(job)
    held_out = np.full((len(known.answers.videos), len(known.names)), np.nan, dtype=np.float32)
    parts = generator("retrain", job.config.seed).permutation(len(held_out)) % max(1, folds)
    for fold in range(folds):
        others = known.answers.part(parts != fold)
        part = _trained(job, known, others, job.run.retrained.folder / f"fold-{fold + 1}")
        places = known.answers.videos[parts == fold]
        held_out[parts == fold] = _cosines(job, part, [known.videos[i] for i in places], known)
    made = _trained(job, known, known.answers, job.run.retrained.folder, whole=True)
    facts: dict[str, Any] = {"matches": _counts(made, job.run), "folds": folds}
    if folds:
        before = known.z_v[known.answers.videos] @ known.z_l.T
        facts |= compared(before, held_out, known.answers)
    write_json(made.folder / "retrained.json", facts)
    return facts


def _known(job: Job) -> Known:
    rows = judged(job.run)
    sample = sampled(job, (video.id for video in read_jsonl(job.run.manifest, Video)))
    names = job.names()
    answers = answers_of(rows, weights_of(job.run), sample.videos, names, measured_errors(job.run))
    if len(answers.videos) < method.FEWEST:
        raise too_few(job.run, len(answers.videos))
    z_v, z_l = sample.z_v["adapted"], sample.z_l["adapted"]
    return Known(sample.videos, z_v, z_l, sample.tau, names, rows, answers)


def _trained(job: Job, known: Known, answers: Answers, folder: Path, *, whole: bool = False) -> Run:
    """Train a run on matches that these answers correct; with `whole` it is also evaluated and reported."""
    run = branch(job.run, folder, job.config, job.config)
    if whole and job.run.eval.manifest.exists():
        run.eval.create()
        shutil.copy2(job.run.eval.manifest, run.eval.manifest)
    told = {known.videos[i].id for i in answers.videos}
    if whole:
        told |= known.rows.keys()
    matches = _corrected(job, known, answers, told)
    write_jsonl(run.matches, matches)
    job.release()
    with open_job(folder, job.config, under(folder.name, job.progress)) as own:
        own.save_settings()
        for stage in (expand_run, caption_run, bag_run, train_run):
            stage(own)
        if whole:
            evaluate_run(own)
            report_run(own)
    return run


def _corrected(job: Job, known: Known, answers: Answers, told: set[str]) -> list[Match]:
    """Return the matches: answers are right, and where the refined model is sure, so is it.

    A video that is answered with none of the names, or that is below the limit of none, is not trained on. `told` are
    the videos whose answers may be used.
    """
    refined = method.refine(known.z_v, known.z_l, known.tau, answers, seed=job.config.seed)
    shares = soft(refined.linear.compare(known.z_v)) if refined else None
    limit = refined.limit if refined else None
    nearest = (known.z_v @ known.z_l.T).max(1)
    places = {video.id: place for place, video in enumerate(known.videos)}
    listed = {same(name): name for name in known.names}
    matches = []
    for match in read_jsonl(job.run.matches, Match):
        place, row = places.get(match.video), known.rows.get(match.video, {})
        name, kept = match.name, match.kept
        kind = row["kind"] if row and match.video in told else ""
        if kind == "name":
            name, kept = listed.get(same(row["answer"]), row["answer"]), True
        elif kind == "none":
            kept = False
        elif place is not None and shares is not None:  # a part of few answers tells of these alone
            best = int(shares[place].argmax())
            if shares[place, best] >= SURE:
                name, kept = known.names[best], True
            if limit is not None and nearest[place] < limit:
                kept = False
        if (name, kept) == (match.name, match.kept):
            matches.append(match)
        else:
            others = match.others if name == match.name else ()
            matches.append(Match(match.video, name, match.score, kept, others, ANSWERS))
    return matches


def _cosines(job: Job, run: Run, videos: Sequence[Video], known: Known) -> np.ndarray:
    """Return the cosines (V, K) of videos with the names by the model of a run."""
    with open_job(run.folder, job.config, job.progress) as own:
        model = own.model(run.model)
        kept, z_v = embed(own, model, videos, job.config.eval.n_frames)
        if len(kept) < len(videos):
            raise MaxiError(
                f"{run.folder}: some answered videos can no longer be read; bring them back, or take their answers out "
                f"of {job.run.judgements}"
            )
        return np.asarray(z_v @ embed_names(model, known.names, [job.config.eval.prompt]).T)


def _counts(made: Run, before: Run) -> dict[str, int]:
    """Return how many videos are trained on, and how many matches changed."""
    old = {match.video: match for match in read_jsonl(before.matches, Match)}
    new = read_jsonl(made.matches, Match)
    return {
        "kept": sum(match.kept for match in new),
        "renamed": sum(match.name != old[match.video].name for match in new),
    }


def lines_of(run: Run, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what came out of training again, some lines for the terminal."""
    counts = facts["matches"]
    yield f"trained on {counts['kept']} videos, {counts['renamed']} of them under another name than before"
    if facts["folds"]:
        gain = with_interval(facts["gain"], facts["interval"])
        yield (
            f"{facts['n']} answered videos, by models that did not learn from their answers: {facts['before']:.1f} % "
            f"before, {facts['after']:.1f} % after, {gain} points"
        )
    yield f"model:  {run.retrained.model}"
    yield f"next:   maxi open {run.retrained.folder}"
