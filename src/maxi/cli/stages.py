"""Verbs of the `maxi` command for the stages of a run, one by one, and for looking at its bags."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxi.cli.group import main, progress_of, settings_of, shared_options

if TYPE_CHECKING:
    from maxi.stages.job import Job


@main.command()
@click.argument("videos")
@shared_options("actions", "out")
@shared_options("backbone", "device", "max_skipped", "config", "set")
@click.pass_context
def index(
    context: click.Context,
    /,
    videos: str,
    actions: Path,
    out: Path,
    config_file: Path | None,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Start a run, or renew its list of VIDEOS: decode each once, write manifest.jsonl and skipped.jsonl.

    Example: maxi index videos/ --actions actions.txt -o runs/mine
    """
    from maxi.stages import adapt as pipeline
    from maxi.video.sources import read_names

    config_file = config_file or pipeline.settings_to_resume(out, options["backbone"])
    config = settings_of(config_file, settings, **options)
    names = read_names(actions)
    with pipeline.open_job(out, config, progress_of(context)) as job:
        pipeline.start(job, names)
        found = pipeline.index(job, videos)
    click.echo(f"{len(found)} videos in {job.run.manifest}")


def _stage(name: str, done: Callable[[Job, Any], str]) -> None:
    """Add the verb of a stage: `maxi NAME RUN`, with `-s` kept in the run's settings."""
    from_pipeline = {"train": "improve", "eval": "evaluate"}.get(name, name)

    def run_stage(context: click.Context, /, run: Path, settings: tuple[str, ...]) -> None:
        from maxi.run import Run
        from maxi.stages import adapt as pipeline

        config = settings_of(Run(run).existing().config, settings)
        together = name == "train"
        with pipeline.open_job(run, config, progress_of(context), together=together) as job:
            job.save_settings()
            result = done(job, getattr(pipeline, from_pipeline)(job))
            if job.world.first:
                click.echo(result)

    run_stage.__doc__ = f"{HELP[name]}\n\n    Example: maxi {name} runs/mine"
    command = click.pass_context(run_stage)
    command = click.argument("run", type=click.Path(path_type=Path))(shared_options("set")(command))
    main.command(name)(command)


HELP = {
    "match": "Match every video of RUN to its dictionary: matches.jsonl.",
    "train": "Train on RUN's bags, going on from its last checkpoint: model/; on several GPUs with torchrun.",
    "report": "Draw RUN's report.html anew.",
}
_stage(
    "match",
    lambda job, rows: f"{sum(r.kept for r in rows)} of {len(rows)} kept in {job.run.matches}",
)
_stage(
    "train",
    lambda job, done: (
        f"{done['steps']} steps, {done.get('data_share', 0):.1%} of the time waiting for data; "
        f"the adapted model is {job.run.model}"
    ),
)
_stage("report", lambda job, path: f"the report is {path}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--tflops",
    type=click.FloatRange(0, min_open=True),
    help="Also count operations, and divide by so many TFLOP/s.",
)
@shared_options("json", "set")
@click.pass_context
def plan(
    context: click.Context,
    /,
    run: Path,
    tflops: float | None,
    as_json: bool,
    settings: tuple[str, ...],
) -> None:
    """Take a few steps of training on RUN's bags, and tell time, memory and disk of the whole on this machine.

    Example: maxi plan runs/mine -s batch_size=64
    """
    from maxi.run import Run
    from maxi.stages import adapt as pipeline
    from maxi.stages import plan as planning

    config = settings_of(Run(run).existing().config, settings)
    with pipeline.open_job(run, config, progress_of(context)) as job:
        found = planning.plan(job, tflops=tflops)
    for line in [json.dumps(found)] if as_json else planning.lines_of(found):
        click.echo(line)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@shared_options("expander", "base_url", "dry_run", "max_cost", "max_calls", "set")
@click.pass_context
def expand(context: click.Context, /, run: Path, **options: Any) -> None:
    """Write phrases for each name of RUN's dictionary: phrases.jsonl.

    Example: maxi expand runs/mine --expander openai:gpt-4o-mini --dry-run
    """
    _ask(context, run, "expand", **options)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@shared_options("captioner", "base_url", "dry_run", "max_cost", "max_calls", "set")
@click.pass_context
def caption(context: click.Context, /, run: Path, **options: Any) -> None:
    """Caption frames of every video of RUN: captions.jsonl.

    Example: maxi caption runs/mine --captioner blip
    """
    _ask(context, run, "caption", **options)


def _ask(
    context: click.Context,
    run: Path,
    stage: str,
    *,
    dry_run: bool,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Run a stage that may ask a server, or only tell what that would cost."""
    from maxi.run import Run
    from maxi.stages import adapt as pipeline

    config = settings_of(Run(run).existing().config, settings, **options)
    with pipeline.open_job(run, config, progress_of(context)) as job:
        if dry_run:
            plans = getattr(pipeline, f"plan_{stage}")(job)
            click.echo("\n".join(plans) or "no server is asked, nothing is to be paid")
            return
        job.save_settings()
        rows = getattr(pipeline, stage)(job)
    if stage == "expand":
        click.echo(f"{sum(len(r.texts) for r in rows)} phrases in {job.run.phrases}")
    else:
        click.echo(f"{len(rows)} videos captioned in {job.run.captions}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--parts", help="Of captions: verbs | verbs+phrases | nouns.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Drop-list: texts, one a line; with a tab and a number the text's weight.",
)
@shared_options("set")
@click.pass_context
def bag(
    context: click.Context,
    /,
    run: Path,
    parts: str | None,
    weights: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Put matches, phrases and captions of RUN into text bags: bags.jsonl, which may be edited by hand.

    Example: maxi bag runs/mine --weights drop.txt
    """
    from maxi.run import Run
    from maxi.stages import adapt as pipeline

    given = {"bag.caption_parts": parts, "bag.weights": weights and str(weights.absolute())}
    chosen = tuple(f"{key}={json.dumps(value)}" for key, value in given.items() if value)
    config = settings_of(Run(run).existing().config, (*settings, *chosen))
    with pipeline.open_job(run, config, progress_of(context)) as job:
        job.save_settings()
        rows = pipeline.bag(job)
    click.echo(f"{len(rows)} bags in {job.run.bags}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["raw", "jpeg"]),
    help="How frames are kept: the run's `cache.format` if left out, or raw.",
)
@click.option("--dry-run", is_flag=True, help="Print the size it would need, and write nothing.")
@click.option(
    "--check", is_flag=True, help="Read all of it; drop damaged videos, exit with 1 if there are."
)
@shared_options("set")
@click.pass_context
def cache(
    context: click.Context,
    /,
    run: Path,
    kind: str | None,
    dry_run: bool,
    check: bool,
    settings: tuple[str, ...],
) -> None:
    """Decode each video of RUN's bags once, for `maxi train`: frames/.

    Example: maxi cache runs/mine --format jpeg --dry-run
    """
    from maxi.run import Run
    from maxi.stages import adapt as pipeline

    saved = Run(run).existing().config
    config = settings_of(saved, settings)
    if kind or config.cache.format == "none":
        config = settings_of(saved, (*settings, f"cache.format={kind or 'raw'}"))
    with pipeline.open_job(run, config, progress_of(context)) as job:
        if dry_run:
            click.echo(f"{pipeline.plan_cache(job)} to be written to {job.run.frames}")
            return
        if check:
            for line in (damaged := pipeline.check_cache(job)):
                click.echo(line)
            if damaged:
                raise SystemExit(1)
            click.echo("nothing is damaged")
            return
        job.save_settings()
        click.echo(f"{pipeline.cache(job)} in {job.run.frames}")


@main.group("bags")
def bags_group() -> None:
    """Look at the bags of a run: one, all in figures, or what is wrong with them.

    Example: maxi bags lint runs/mine
    """


@bags_group.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("video")
def show(run: Path, video: str) -> None:
    """Show match, phrases, captions and bag of one VIDEO of RUN: its id, path or file name.

    Example: maxi bags show runs/mine clip.mp4
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run

    for line in inspection.show(Run(run).existing(), video):
        click.echo(line)


@bags_group.command()
@click.argument("run", type=click.Path(path_type=Path))
@shared_options("json")
def stats(run: Path, as_json: bool) -> None:
    """Sizes, sources, commonest texts and agreement of RUN's bags.

    Example: maxi bags stats runs/mine
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run

    found = inspection.stats(Run(run).existing())
    for line in [json.dumps(found, ensure_ascii=False)] if as_json else inspection.lines_of(found):
        click.echo(line)


@bags_group.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    help="Names of an evaluation, one a line (the run's own if left out).",
)
def lint(run: Path, names: Path | None) -> None:
    """Warn where RUN's bags degenerate; exits with 1 when it finds something.

    Example: maxi bags lint runs/mine --names test-names.txt
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run
    from maxi.video.sources import read_names

    found = inspection.lint(Run(run).existing(), read_names(names) if names else None)
    for line in found:
        click.echo(line)
    if found:
        raise SystemExit(1)
    click.echo("nothing found")


@main.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--on", "labelled", help="Labelled videos: class folders, or a csv with path and label."
)
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    help="Names to choose from (the labels, if left out).",
)
@shared_options("set")
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    run: Path,
    labelled: str | None,
    names: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Compare RUN's frozen and adapted model: predictions.jsonl, and with labelled videos results.json.

    Example: maxi eval runs/mine --on heldout.csv
    """
    from maxi.run import Run
    from maxi.stages import adapt as pipeline
    from maxi.video.sources import read_names

    config = settings_of(Run(run).existing().config, settings)
    with pipeline.open_job(run, config, progress_of(context)) as job:
        job.save_settings()
        if labelled:
            pipeline.index(job, labelled, job.run.eval)
        pipeline.evaluate(job, names=read_names(names) if names else None)
    for line in pipeline.summary(job.run):
        click.echo(line)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--on", "labelled", help="Labelled videos: class folders, or a csv with path and label."
)
@click.option("--alpha", type=click.FloatRange(0, 1), help="Ratio to write as a model, with -o.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="Folder of that model.")
@shared_options("json", "set")
@click.pass_context
def ensemble(
    context: click.Context,
    /,
    run: Path,
    labelled: str | None,
    alpha: float | None,
    out: Path | None,
    as_json: bool,
    settings: tuple[str, ...],
) -> None:
    """Measure RUN's weights between frozen and fine-tuned: ensemble.json; or write one ratio as a model.

    Example: maxi ensemble runs/mine --on validation.csv
    """
    from maxi.run import Run
    from maxi.stages import adapt as pipeline
    from maxi.stages import ensemble as ensembling

    if (alpha is None) != (out is None):
        raise click.UsageError("--alpha and -o go together")
    config = settings_of(Run(run).existing().config, settings)
    with pipeline.open_job(run, config, progress_of(context)) as job:
        if alpha is not None and out is not None:
            ensembling.save_between(job, alpha, out)
            click.echo(f"the model with alpha {alpha:g} is {out}")
            return
        if labelled:
            pipeline.index(job, labelled, job.run.eval)
        rows = ensembling.curve(job)
    for line in [json.dumps(rows)] if as_json else ensembling.lines_of(rows):
        click.echo(line)
