"""Refine: learn from the answers of a few videos what they tell of the whole collection, without decoding a video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from maxi.errors import MaxiError
from maxi.method import refinement as method
from maxi.method.asking import accuracy, difference
from maxi.method.mixture import Answers
from maxi.records import Video
from maxi.run import Run, contents, signed
from maxi.stages.asking import estimate, sampled, weights_of
from maxi.stages.job import Job
from maxi.stages.judgements import error_rates, judged
from maxi.text.names import same

ENOUGH = 10  # videos that a model and a person both judged, from which its errors are known
BINS = 5  # of the diagram of reliability


def refine_run(job: Job) -> dict[str, Any]:
    """Write `refinement.safetensors` from the judgements of a run, and return what is in its `Refinement`.

    Raises MaxiError when fewer than 10 videos are answered with one of the run's names.
    """
    run, config, names = job.run, job.config, job.names()
    rows, weights = judged(run), weights_of(run)
    sample = sampled(job, rows)
    videos, z_v, z_l = sample.videos, sample.z_v["adapted"], sample.z_l["adapted"]
    rates = measured_errors(run)
    answers = answers_of(rows, weights, videos, names, rates)
    refined = method.refine(z_v, z_l, sample.tau, answers, seed=config.seed)
    if refined is None:
        raise too_few(run, len(answers.videos))
    of_none = [i for i, video in enumerate(videos) if rows.get(video.id, {}).get("kind") == "none"]
    before = z_v[answers.videos] @ z_l.T / sample.tau
    logits = before, refined.held_out
    facts = {
        "weights": sample.weights,
        "names": list(names),
        "prompt": config.eval.prompt,
        "tau": refined.tau,
        "parts": {part: round(share, 3) for part, share in refined.parts.items()},
        "fits": {fit: round(right, 1) for fit, right in refined.fits.items()},
        "limit": refined.limit,
        "wrong": refined.wrong,
        "shares": [[round(float(x), 4) for x in row] for row in refined.shares],
        **compared(before, refined.held_out, answers),
        "calibration": [method.calibration_error(x, answers.names) for x in logits],
        "reliability": [method.reliability(x, answers.names, BINS) for x in logits],
        "estimate": estimate(rows, weights, sample, names),
        "n_none": len(of_none),
        "n_none_found": _n_below(z_v[of_none] @ z_l.T, refined.limit),
        "n_judged": sum(video.id in rows for video in videos),
        "judges": {by: round(rate, 3) for by, rate in rates.items()},
    }
    inputs = {path.name: contents(path) for path in (run.judgements, run.training)}
    with signed(run.refinement, inputs) as path:
        tensors = {
            name: np.ascontiguousarray(part) for name, part in refined.linear._asdict().items()
        }
        save_file(tensors, path, {"refinement": json.dumps(facts)})
    return facts


def too_few(run: Run, n: int) -> MaxiError:
    """Return the error for `n` answers, from which nothing can be learnt."""
    return MaxiError(
        f"{run.judgements}: {n} videos are answered with one of the run's names; answer at least {method.FEWEST}, for "
        "instance with `maxi open`, or with `maxi judge` and `maxi import`"
    )


def answers_of(
    rows: Mapping[str, dict[str, Any]],
    weights: Mapping[str, float],
    videos: Sequence[Video],
    names: Sequence[str],
    rates: Mapping[str, float],
) -> Answers:
    """Return the answers that are names of the run, in the order of the videos; those not drawn have a mean weight.

    `rates` are shares of wrong answers that were measured, by judge; see `measured_errors`.
    """
    places = {same(name): k for k, name in enumerate(names)}
    usual = float(np.mean(list(weights.values()))) if weights else 1.0
    found = [
        (
            i,
            places[same(row["answer"])],
            weights.get(video.id, usual),
            rates.get(row["by"], np.nan),
        )
        for i, video in enumerate(videos)
        if (row := rows.get(video.id)) and row["kind"] == "name" and same(row["answer"]) in places
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 4)
    of_each = table[:, 2] / (table[:, 2].mean() if found else 1.0)
    return Answers(table[:, 0].astype(int), table[:, 1].astype(int), of_each, measured=table[:, 3])


def measured_errors(run: Run) -> dict[str, float]:
    """Return the share of wrong answers of each judge that is a model, where a person answered enough of its videos.

    One wrong and one right answer are added, so that no judge is taken to be always right, or always wrong.
    """
    return {
        by: (wrong + 1) / (both + 2)
        for by, (wrong, both) in error_rates(run).items()
        if both >= ENOUGH
    }


def compared(before: np.ndarray, after: np.ndarray, answers: Answers) -> dict[str, Any]:
    """Return how many percent of the answered videos are recognised by scores (A, K) before and after, and the gain."""
    was, now = (scores.argmax(1) == answers.names for scores in (before, after))
    gain, low, high = difference(now, was, answers.weights)
    return {
        "n": len(answers.videos),
        "before": accuracy(was, answers.weights)[0],
        "after": accuracy(now, answers.weights)[0],
        "gain": gain,
        "interval": [low, high],
    }


def _n_below(cosines: np.ndarray, limit: float | None) -> int:
    return 0 if limit is None else int((cosines.max(1, initial=-1) < limit).sum())
