"""Rounds: train the models of earlier rounds, each of which matches the videos anew for the next one."""

from __future__ import annotations

from maxi.progress import under
from maxi.settings import changed
from maxi.stages.bag import bag_run
from maxi.stages.branch import branch
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run


def earlier_rounds(job: Job) -> None:
    """Train the model of the round before, where `match.rounds` is two or three.

    It lies in `round-1/` or `round-2/`, a run with the same settings but for one round less, beside which lies the
    round before it.
    """
    run, config = job.run, job.config
    number = config.match.rounds - 1
    if not number:
        return
    own = changed(config, {"match.rounds": number})
    part = branch(run, run.round(number).folder, config, own)
    job.release()
    with open_job(part.folder, own, under(f"round {number}", job.progress)) as earlier:
        earlier.save_settings()
        earlier_rounds(earlier)
        for stage in (match_run, expand_run, caption_run, bag_run, train_run):
            stage(earlier)
