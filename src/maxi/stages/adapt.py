"""`adapt`: the stages in order, and what else the command does with a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from maxi.config import Config
from maxi.errors import MaxiError, choose
from maxi.method import captioning, expansion
from maxi.method.classification import Classifier, Prediction
from maxi.method.metrics import signed
from maxi.method.objectives import OBJECTIVES
from maxi.progress import bar
from maxi.records import (
    read_json,
    write_text,
)
from maxi.reports.model_card import write_card
from maxi.reports.report import write_report
from maxi.reports.verify import write_verify
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.cache import cache, check_cache, plan_cache
from maxi.stages.chain import bag, caption, expand, index, match, plan_caption, plan_expand
from maxi.stages.evaluate import evaluate
from maxi.stages.job import Job, Progress, fresh_model, open_job
from maxi.stages.train import improve
from maxi.text.clean import fill
from maxi.text.phrasebook import shipped_book
from maxi.text.verbs import VerbParser
from maxi.training.logbooks import require_wandb
from maxi.video.sources import EXTENSIONS, list_videos, read_names
from maxi.video.workers import Decoder

__all__ = [
    "adapt",
    "bag",
    "cache",
    "caption",
    "check_cache",
    "classify_videos",
    "evaluate",
    "expand",
    "improve",
    "index",
    "match",
    "open_job",
    "plan_cache",
    "plan_caption",
    "plan_expand",
    "report",
    "settings_to_resume",
    "start",
    "summary",
    "verify",
]


def report(job: Job) -> Path:
    """Write `report.html`, and beside the model its card."""
    if job.run.model.is_dir():
        write_card(job.run, job.config, job.names())
    return write_report(job.run.folder, job.decoder, seed=job.config.seed)


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
    """Videos and action names in, an adapted model, its figures and a report out.

    Without a `config` the settings are the defaults for `backbone`. `labelled` are videos to measure on, `control` adds
    the shuffled control.

    Stages whose output is current are left out when `resume` is given; without it `out` must be new. Raises MaxiError
    for anything the user can mend; what was finished stays.
    """
    run = Run(out)
    names = read_names(actions) if isinstance(actions, (str, Path)) else actions
    if config is None:
        config = load_config(backbone=backbone)
    elif backbone is not None:
        raise MaxiError("adapt: config and backbone conflict; say the backbone in the config")
    list_videos(videos)
    if labelled:
        _check_labels(labelled)
    if run.config.exists() and not resume:
        raise MaxiError(
            f"{run.folder} already holds a run; add --resume to go on with it, or choose another -o"
        )
    with open_job(run.folder, config, progress) as job:
        check_settings(job)
        start(job, names)
        expand(job)
        if len(index(job, videos)) < 2:
            raise MaxiError(
                f"{videos}: only one readable video; contrast needs at least two, better hundreds"
            )
        if labelled:
            index(job, labelled, run.eval)
        match(job)
        caption(job)
        bag(job)
        improve(job)
        if control:
            improve(job, control=True)
        evaluate(job)
        report(job)
    return run


def check_settings(job: Job) -> None:
    """Refuse what would stop a later stage, before hours of decoding: backbone, sources, objective, parser."""
    config = job.config
    choose(OBJECTIVES, config.train.objective, "objective")
    require_wandb(config.train)
    expansion.parse(config.expand.expander)
    for template in config.match.templates or ():
        fill(template, "")
    VerbParser().phrases(["run"])
    model = job.model()
    if config.caption.captioner not in ("none", "retrieval"):
        captioning.make_captioner(config.caption.captioner, captioning.Context(model, config.chat))


def _check_labels(labelled: str) -> None:
    sources = list_videos(labelled)
    if bare := [s for s in sources if s.label is None]:
        raise MaxiError(
            f"{labelled}: {len(bare)} of {len(sources)} videos have no label, first {bare[0].path}; "
            "use class folders, or a csv with path and label"
        )
    if len({s.label for s in sources}) < 2:
        raise MaxiError(f"{labelled}: all videos have one label; evaluation needs at least two")


def settings_to_resume(out: Path, backbone: str | None) -> Path | None:
    """The settings of the run to go on with, so that its flags need not be repeated; None for another backbone."""
    run = Run(out)
    if not run.config.is_file():
        return None
    return run.config if backbone in (None, load_config(run.config).backbone) else None


def start(job: Job, names: Sequence[str]) -> None:
    """Make the run's folder with its settings and its dictionary."""
    job.run.create()
    job.lock()
    job.save_settings()
    write_text(job.run.dictionary, (" ".join(name.split()) + "\n" for name in names))
    if (
        len(job.names()) < 2
    ):  # read back: names that came as a list are checked like those of a file
        raise MaxiError(
            f"{job.run.dictionary}: one action name leaves nothing to tell apart; add others"
        )


def summary(run: Run) -> Iterator[str]:
    """What a finished run came to, a few lines for the terminal."""
    if run.results.exists():
        records = [r for r in read_json(run.results) if r["split"] == "all"]
        yield f"{'model':10} {'top-1':>7} {'top-5':>7} {'per class':>10}   on {records[0]['n']} labelled videos"
        for r in records:
            gain = r.get("gain", {}).get("top1")
            paired = f"   top-1 {signed(gain['gain'], gain['interval'])}" if gain else ""
            yield f"{r['model']:10} {r['top1']:7.1f} {r['top5']:7.1f} {r['mean_per_class']:10.1f}{paired}"
    else:
        rows = [
            json.loads(line) for line in run.predictions.read_text(encoding="utf-8").splitlines()
        ]
        same = sum(r["frozen"][0][0] == r["adapted"][0][0] for r in rows)
        yield f"frozen and adapted agree on {same} of {len(rows)} videos; no labels, so no gain is claimed"
        yield f"judge a sample yourself: maxi verify {run.folder} -n 40"
    yield f"model:  {run.model}"
    if run.report.exists():
        yield f"report: {run.report}"


def verify(job: Job, n: int) -> Path:
    """Write `verify.html`, on which a person judges `n` sampled clips."""
    return write_verify(job.run.folder, job.decoder, n=n, seed=job.config.seed)


def classify_videos(
    videos: str,
    spec: str,
    *,
    actions: Path | None = None,
    window: float = 30.0,
    prompt: str | None = None,
    k: int = 5,
    none: bool = False,
    device: str | None = None,
    progress: Progress = bar,
) -> Iterator[Prediction | MaxiError]:
    """Predictions for a file, or each video of a folder or list; a run brings its names, prompt and frames along.

    A file that cannot be decoded gives a MaxiError in place of predictions; alone, it is raised.
    """
    run = Run(spec)
    if not run.config.is_file() and Run(run.folder.parent).model == run.folder:
        run = Run(run.folder.parent)  # the model folder of a run
    own = run.config.is_file()
    config = load_config(run.config if own else None, backbone=None if own else spec, device=device)
    if actions is None and not run.dictionary.is_file():
        raise MaxiError(f"{spec} has no action names of its own; pass --actions FILE")
    names = read_names(actions or run.dictionary)
    alone = Path(videos).is_file() and Path(videos).suffix.lower() in EXTENSIONS
    paths = [videos] if alone else [str(s.path) for s in list_videos(videos)]
    model = fresh_model(config, spec)
    classifier = Classifier(
        model,
        names,
        prompt=prompt or config.eval.prompt,
        n_frames=config.eval.n_frames,
        k=k,
        others=list(shipped_book().labels) if none else (),
    )
    with Decoder(config.workers or None, config.deadline) as decoder:
        for path in paths if alone else progress(paths, len(paths), "classify"):
            try:
                yield from classifier.windows(path, decoder, window)
            except MaxiError as error:
                if alone:
                    raise
                yield error
