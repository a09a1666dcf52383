"""Verbs of the `maxi` command for the single stages of a run, and for looking at its bags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from maxi.cli.group import (
    RUN,
    NewFolder,
    chosen_of,
    main,
    numbers_of,
    open_run,
    progress_of,
    shared_options,
)
from maxi.cli.output import say

NOTHING_TO_PAY = "no server is asked, so there is nothing to pay"


@main.command()
@click.argument("videos")
@shared_options("actions", "out")
@shared_options("backbone", "device", "segment", "max_skipped", "config", "set")
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
    """Start a run, or renew its list of VIDEOS: decode each file once, write manifest.jsonl and skipped.jsonl.

    Example: maxi index videos/ --actions actions.txt -o runs/mine
    """
    from maxi.stages.index import index_run, start_run
    from maxi.stages.job import load_to_resume, open_job
    from maxi.video.sources import read_names

    config = load_to_resume(out, config_file, settings, **options)
    names = read_names(actions)
    with open_job(out, config, progress_of(context)) as job:
        start_run(job, names)
        indexed = index_run(job, videos)
    say(f"{len(indexed)} videos in {job.run.manifest}")


@main.command()
@RUN
@shared_options("set")
@click.pass_context
def match(context: click.Context, /, run: Path, settings: tuple[str, ...]) -> None:
    """Match every video of RUN to its nearest action name: matches.jsonl.

    Example: maxi match runs/mine
    """
    from maxi.stages.match import match_run

    with open_run(context, run, settings) as job:
        matches = match_run(job)
    say(f"{sum(m.kept for m in matches)} of {len(matches)} kept in {job.run.matches}")


@main.command()
@RUN
@shared_options("expander", "base_url", "dry_run", "max_cost", "max_calls", "set")
@click.pass_context
def expand(
    context: click.Context, /, run: Path, dry_run: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Write phrases for each action name of RUN: phrases.jsonl.

    Example: maxi expand runs/mine --expander openai:gpt-4o-mini --dry-run
    """
    from maxi.stages.expand import expand_run, plan_expand

    with open_run(context, run, settings, save=not dry_run, **options) as job:
        if dry_run:
            for line in plan_expand(job) or [NOTHING_TO_PAY]:
                say(line)
            return
        phrases = expand_run(job)
    say(f"{sum(len(row.texts) for row in phrases)} phrases in {job.run.phrases}")


@main.command()
@RUN
@shared_options("captioner", "base_url", "dry_run", "max_cost", "max_calls", "set")
@click.pass_context
def caption(
    context: click.Context, /, run: Path, dry_run: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Caption frames of every video of RUN: captions.jsonl.

    Example: maxi caption runs/mine --captioner blip
    """
    from maxi.stages.caption import caption_run, plan_caption

    with open_run(context, run, settings, save=not dry_run, **options) as job:
        if dry_run:
            for line in plan_caption(job) or [NOTHING_TO_PAY]:
                say(line)
            return
        captions = caption_run(job)
    say(f"{len(captions)} videos captioned in {job.run.captions}")


@main.command()
@RUN
@click.option(
    "--parts", help="Parts of captions that enter the bags: verbs | verbs+phrases | nouns."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, resolve_path=True),
    help="Texts to drop, one a line; with a tab and a number it is the text's weight instead.",
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
    from maxi.stages.bag import bag_run

    options: dict[str, Any] = {"bag.caption_parts": parts, "bag.weights": weights and str(weights)}
    with open_run(context, run, settings, **options) as job:
        bags = bag_run(job)
    say(f"{len(bags)} bags in {job.run.bags}")


@main.command()
@RUN
@click.option(
    "--format",
    "kind",
    type=click.Choice(["raw", "jpeg"]),
    help="How frames are kept (the run's `cache.format` if left out, or raw where that is none).",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the size that it would need, and write nothing."
)
@click.option(
    "--check",
    is_flag=True,
    help="Read the whole cache and drop damaged videos; exit with 1 if there are any.",
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
    """Decode each video that has a bag in RUN once, for `maxi train`: frames/.

    Example: maxi cache runs/mine --format jpeg --dry-run
    """
    from maxi.stages.cache import cache_run, check_cache, format_of, plan_cache

    options: dict[str, Any] = {"cache.format": format_of(run, settings, kind)}
    with open_run(context, run, settings, save=not (dry_run or check), **options) as job:
        if dry_run:
            say(f"{plan_cache(job)} to be written to {job.run.frames}")
            return
        if check:
            damaged = check_cache(job)
            for line in damaged or ["nothing is damaged"]:
                say(line)
            context.exit(1 if damaged else 0)
        say(f"{cache_run(job)} in {job.run.frames}")


@main.command()
@RUN
@shared_options("set")
@click.pass_context
def train(context: click.Context, /, run: Path, settings: tuple[str, ...]) -> None:
    """Train on RUN's bags, from its last checkpoint if there is one: model/; on several GPUs with torchrun.

    Example: maxi train runs/mine
    """
    from maxi.stages.train import train_run

    with open_run(context, run, settings, together=True) as job:
        outcome = train_run(job)
        if job.world.first:
            say(
                f"{outcome['steps']} steps, {outcome['data_share']:.1%} of the time waiting for data; "
                f"the adapted model is {job.run.model}"
            )


@main.command()
@RUN
@click.option(
    "--tflops",
    type=click.FloatRange(0, min_open=True),
    help="Also count the operations of a step, and divide them by this speed in TFLOP/s.",
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
    """Tell how much time, memory and disk `maxi train` will take on this machine, from a few steps on RUN's bags.

    Example: maxi plan runs/mine -s batch_size=64
    """
    from maxi.stages.plan import lines_of, plan_run

    with open_run(context, run, settings, save=False) as job:
        planned = plan_run(job, tflops=tflops)
    for line in [json.dumps(planned)] if as_json else lines_of(planned):
        say(line)


@main.command("eval")
@click.argument("model", metavar="RUN_OR_MODEL")
@click.option(
    "--on",
    "labelled",
    multiple=True,
    help="Labelled videos: class folders, a csv with path and label, or NAME:ROOT of a dataset; several times.",
)
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    help="Names to choose from on class folders or a csv (the labels, if left out).",
)
@shared_options("lists")
@click.option(
    "-o",
    "out",
    type=NewFolder(path_type=Path),
    help="Folder of the datasets' results.json (RUN/datasets, if left out).",
)
@click.option(
    "--texts",
    help="On datasets, what stands for names: some of prompt,templates,phrases, each with its rows.",
)
@click.option(
    "--alphas",
    help="On datasets, also mixtures of a run's frozen and fine-tuned weights, such as 0.2,0.5,1.",
)
@shared_options("set")
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    model: str,
    labelled: tuple[str, ...],
    names: Path | None,
    lists: Path | None,
    out: Path | None,
    texts: str | None,
    alphas: str | None,
    settings: tuple[str, ...],
) -> None:
    """Compare the frozen and the adapted model of a run, or measure any model, on labelled videos and datasets.

    Of a run: predictions.jsonl, and with class folders or a csv results.json. Of datasets: results.json in -o.

    Example: maxi eval runs/mine --on ucf101:/data/UCF-101 --lists lists
    """
    from maxi.config import NAME_TEXTS
    from maxi.datasets.check import is_preset
    from maxi.reports.datasets import table_of
    from maxi.run import Run
    from maxi.settings import load_config
    from maxi.stages.datasets import evaluate_datasets, evaluate_model, models_of_run
    from maxi.stages.evaluate import evaluate_run
    from maxi.stages.index import index_run
    from maxi.stages.report import summary_of
    from maxi.video.sources import read_names

    kinds = chosen_of("--texts", texts, NAME_TEXTS)
    ratios = numbers_of("--alphas", alphas, float, 0, 1)
    if not Run(model).is_run():
        if ratios:
            raise click.UsageError(f"{model} is no run, which --alphas needs")
        if not (labelled and out):
            raise click.UsageError(f"{model} is no run; to measure a model, give --on and -o")
        config = load_config(None, settings, backbone=model)
        progress = progress_of(context)
        rows = evaluate_model(
            model, config, labelled, out, lists=lists, texts=kinds, progress=progress
        )
        for line in table_of(rows):
            say(line)
        return
    datasets = [spec for spec in labelled if is_preset(spec)]
    own = [spec for spec in labelled if not is_preset(spec)]
    if (kinds or ratios) and not (datasets or own[1:]):
        raise click.UsageError("--texts and --alphas are for datasets: name one as --on NAME:ROOT")
    with open_run(context, Path(model), settings) as job:
        if own or not datasets:
            if own:
                index_run(job, own[0], job.run.eval)
            evaluate_run(job, names=read_names(names) if names else None)
            for line in summary_of(job.run):
                say(line)
        if others := [*datasets, *own[1:]]:
            place = out or job.run.folder / "datasets"
            members = models_of_run(job, ratios)
            for line in table_of(
                evaluate_datasets(job, members, others, place, lists=lists, texts=kinds)
            ):
                say(line)


@main.command()
@RUN
@shared_options("set")
@click.pass_context
def report(context: click.Context, /, run: Path, settings: tuple[str, ...]) -> None:
    """Write RUN's report.html again from the files that it has.

    Example: maxi report runs/mine
    """
    from maxi.stages.report import report_run

    with open_run(context, run, settings) as job:
        say(f"the report is {report_run(job)}")


@main.command()
@RUN
@click.option(
    "--on", "labelled", help="Labelled videos: class folders, or a csv with path and label."
)
@click.option("--alpha", type=click.FloatRange(0, 1), help="Ratio to write as a model; needs -o.")
@click.option("-o", "out", type=NewFolder(path_type=Path), help="New folder for that model.")
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
    """Measure mixtures of RUN's frozen and fine-tuned weights: ensemble.json; or write one ratio as a model.

    Example: maxi ensemble runs/mine --on validation.csv
    """
    from maxi.stages.ensemble import ensemble_run, lines_of, save_between
    from maxi.stages.index import index_run

    if (alpha is None) != (out is None):
        raise click.UsageError("--alpha and -o go together: give both, or neither")
    with open_run(context, run, settings, save=False) as job:
        if alpha is not None and out is not None:
            save_between(job, alpha, out)
            say(f"the model with alpha {alpha:g} is {out}")
            return
        if labelled:
            index_run(job, labelled, job.run.eval)
        curve = ensemble_run(job)
    for line in [json.dumps(curve)] if as_json else lines_of(curve):
        say(line)


@main.group("bags")
def bags_group() -> None:
    """Look at the bags of a run: show one, count all, or warn where they tell little.

    Example: maxi bags lint runs/mine
    """


@bags_group.command()
@RUN
@click.argument("video")
def show(run: Path, video: str) -> None:
    """Show the match, phrases, captions and bag of one VIDEO of RUN; VIDEO is its id, path or file name.

    Example: maxi bags show runs/mine clip.mp4
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run

    for line in inspection.show(Run(run).existing(), video):
        say(line)


@bags_group.command()
@RUN
@shared_options("json")
def stats(run: Path, as_json: bool) -> None:
    """Show the sizes, sources and commonest texts of RUN's bags, and how often two sources agree.

    Example: maxi bags stats runs/mine
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run

    figures = inspection.stats(Run(run).existing())
    as_lines = (
        [json.dumps(figures, ensure_ascii=False)] if as_json else inspection.lines_of(figures)
    )
    for line in as_lines:
        say(line)


@bags_group.command()
@RUN
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    help="Names of an evaluation, one a line (the labels of the run's own if left out).",
)
def lint(run: Path, names: Path | None) -> None:
    """Warn where RUN's bags tell little; exit with 1 when something is found.

    Example: maxi bags lint runs/mine --names test-names.txt
    """
    from maxi.reports import bag_check as inspection
    from maxi.run import Run
    from maxi.video.sources import read_names

    signs = inspection.lint(Run(run).existing(), read_names(names) if names else None)
    for sign in signs:
        say(sign)
    if signs:
        raise click.exceptions.Exit(1)
    say("nothing found")
