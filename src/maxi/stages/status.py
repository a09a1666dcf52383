"""Status: which files of a run are older than what they were made from, and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from maxi.documents import Asked, read_rows
from maxi.errors import MaxiError
from maxi.run import contents, made_from, require
from maxi.stages.bag import bag_inputs, made_bags
from maxi.stages.caption import caption_inputs
from maxi.stages.expand import expand_inputs
from maxi.stages.job import Job
from maxi.stages.judgements import judged
from maxi.stages.match import match_inputs
from maxi.stages.train import training_inputs

ENOUGH = 40  # answers


class Step(NamedTuple):
    """What to do next: why, as a sentence, and the commands in their order; the page `judge` may be named instead."""

    why: str
    commands: tuple[str, ...] = ()
    page: str = ""


def stale(job: Job) -> tuple[str, list[str]]:
    """Return why the first stage is to be run again whose output is missing or old, and it with all verbs behind it.

    Where all are current that is an empty sentence, and no verb.
    """
    run = job.run
    checks: dict[str, Callable[[], object]] = {
        "match": lambda: require(run.matches, "match", match_inputs(job).key),
        "expand": lambda: require(run.phrases, "expand", expand_inputs(job).key),
        "caption": lambda: require(run.captions, "caption", caption_inputs(job).key),
        "bag": lambda: require(run.bags, "bag", bag_inputs(job).key),
        "train": lambda: require(run.training, "train", training_inputs(job, made_bags(job)).key),
        "eval": lambda: require(
            run.predictions, "eval", {run.training.name: contents(run.training)}
        ),
    }
    verbs = list(checks)
    for place, check in enumerate(checks.values()):
        try:
            check()
        except MaxiError as error:
            return str(error), verbs[place:]
    return "", []


def next_step(job: Job) -> Step:
    """Return what a user of this run should do next."""
    run, folder = job.run, job.run.folder
    why, verbs = stale(job)
    if verbs:
        return Step(why, tuple(f"maxi {verb} {folder}" for verb in verbs))
    rows = judged(run)
    drawn = {row["video"] for row in read_rows(run.asked, Asked)}
    n = len(rows.keys() & drawn)
    if n < ENOUGH:
        return Step(
            f"{n or 'no'} clips are answered yet; some {ENOUGH} answers tell how good both models are, and make the "
            "model better",
            page="judge",
        )
    inputs = {path.name: contents(path) for path in (run.judgements, run.training)}
    if not made_from(run.refinement, inputs):
        return Step(
            "there are answers that the model has not learnt from", (f"maxi refine {folder}",)
        )
    return Step(
        "all is current: use the model, or train again on the matches that your answers correct",
        (f"maxi classify VIDEO --model {folder}", f"maxi refine {folder} --retrain"),
    )
