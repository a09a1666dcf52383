"""Adapt: run all stages in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maxi.config import Config
from maxi.errors import MaxiError, choose
from maxi.method import captioning, expansion
from maxi.method.objectives import OBJECTIVES
from maxi.progress import Progress, bar
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.evaluate import evaluate_run
from maxi.stages.expand import expand_run
from maxi.stages.index import check_labels, index_run, start_run
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run, wanted_shares
from maxi.stages.report import report_run
from maxi.stages.rounds import earlier_rounds
from maxi.stages.train import train_run
from maxi.text.clean import with_name
from maxi.text.verbs import VerbParser
from maxi.training.logbooks import require_wandb
from maxi.video.sources import list_videos, read_names


def adapt(
    videos: str,
    actions: str | Path | Sequence[str],
    out: str | Path,
    config: Config | None = None,
    *,
    backbone: str | None = None,
    labelled: str | None = None,
    control: bool = False,
    resume: bool = False,
    progress: Progress = bar,
) -> Run:
    """Make an adapted model, its figures and a report from videos and action names.

    Without a `config` the settings are the defaults for `backbone`. `labelled` are videos to measure on, `control` adds
    the shuffled control.

    With `resume`, stages whose output is current are left out; without it, `out` must be new. Raises MaxiError for
    anything that the user can mend; finished stages are kept.
    """
    run = Run(out)
    run.check_own()
    names = read_names(actions) if isinstance(actions, (str, Path)) else actions
    if config is None:
        config = load_config(backbone=backbone)
    elif backbone is not None:
        raise MaxiError("adapt: config and backbone conflict; name the backbone in the config only")
    list_videos(videos)
    if labelled:
        check_labels(labelled, list_videos(labelled))
    if run.config.exists() and not resume:
        raise MaxiError(
            f"{run.folder} already holds a run; add --resume to go on with it, or choose another -o"
        )
    with open_job(run.folder, config, progress) as job:
        check_settings(job)
        start_run(job, names)
        wanted_shares(
            config.match, job.names()
        )  # a file that does not fit is told before hours of decoding
        expand_run(job)
        if len(index_run(job, videos)) < 2:
            raise MaxiError(
                f"{videos}: holds only one readable video; give at least two, better hundreds"
            )
        if labelled:
            index_run(job, labelled, run.eval)
        earlier_rounds(job)
        match_run(job)
        caption_run(job)
        bag_run(job)
        train_run(job)
        if control:
            train_run(job, control=True)
        evaluate_run(job)
        report_run(job)
    return run


def check_settings(job: Job) -> None:
    """Raise MaxiError for settings that would stop a later stage, before hours of decoding.

    Checked are the objective, the logger, the sources of phrases and captions, the templates, the parser of verbs and
    the backbone.
    """
    config = job.config
    choose(OBJECTIVES, config.train.objective, "objective")
    require_wandb(config.train)
    expansion.parse(config.expand.expander)
    for template in config.match.templates or ():
        with_name(template, "")
    VerbParser().phrases(["run"])
    model = job.model()
    if config.caption.captioner not in ("none", "retrieval"):
        captioning.make_captioner(
            config.caption.captioner, captioning.CaptionContext(model, config.chat)
        )
