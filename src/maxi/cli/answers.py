"""Verbs of the `maxi` command for answers: give them, learn from them, and take a model's answers elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maxi.cli.group import RUN, main, open_run, shared_options
from maxi.cli.output import say
from maxi.errors import MaxiError


@main.command()
@RUN
@click.option("-n", default=40, show_default=True, type=click.IntRange(10), help="Clips to judge.")
@click.pass_context
def verify(context: click.Context, /, run: Path, n: int) -> None:
    """Write a page on which a person judges sampled clips to estimate the accuracy of both models.

    Example: maxi verify runs/mine -n 40
    """
    from maxi.stages.report import verify_run

    with open_run(context, run, save=False) as job:
        say(f"open {verify_run(job, n)} in a browser")


@main.command()
@RUN
@click.option("-n", default=40, show_default=True, type=click.IntRange(1), help="Draws.")
@click.option(
    "-o",
    "table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The csv to write and to fill in.",
)
@click.option("--with", "judge_spec", help="openai:MODEL, a model that answers in your place.")
@shared_options("base_url", "max_cost", "max_calls", "set")
@click.pass_context
def judge(
    context: click.Context,
    /,
    run: Path,
    n: int,
    table: Path | None,
    judge_spec: str | None,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Draw videos to be named: by a person, in a csv for `maxi import`, or by a vision-language model.

    Half of the draws take any video, half those that tell more; estimates correct for it.

    Example: maxi judge runs/mine -n 40 -o ask.csv
    """
    from maxi.stages.asking import ask
    from maxi.stages.judge import judge_run, lines_of

    if bool(table) == bool(judge_spec):
        raise click.UsageError("give either -o FILE, to judge yourself, or --with openai:MODEL")
    with open_run(context, run, settings, save=False, **options) as job:
        if judge_spec:
            for line in lines_of(job.run, judge_spec, judge_run(job, judge_spec, n)):
                say(line)
        elif table:
            found = ask(job, n, table)
            say(
                f"{found} videos to name are in {table}; fill in the column label, then: maxi import {run} {table}"
            )


@main.command("import")
@RUN
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--by", default="person", show_default=True, help="Who gave the answers.")
def import_answers(run: Path, file: Path, by: str) -> None:
    """Add what was answered of some videos to the run: a csv with path and label, the file of `maxi verify`, or Label
    Studio's JSON export.

    Example: maxi import runs/mine answers.csv
    """
    from maxi.run import Run
    from maxi.stages.judgements import import_judgements, judged

    found = Run(run)
    n = import_judgements(found, file, by)
    say(f"{n} answers are added; {len(judged(found))} videos of the run are judged")


@main.command("export")
@RUN
@click.option(
    "--to",
    "form",
    type=click.Choice(["segments.csv", "label-studio", "fiftyone", "videofolder", "parquet"]),
    default="segments.csv",
    show_default=True,
    help="The tool that is to read it.",
)
@click.option(
    "-o",
    "out",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder (exports/FORM of the run if left out).",
)
@click.option(
    "--window",
    type=click.FloatRange(0),
    default=0.0,
    help="A row for each window of about so many seconds, for which videos are decoded.",
)
@click.option("--plain", is_flag=True, help="Leave out the refinement of the run.")
@click.pass_context
def export_answers(
    context: click.Context, /, run: Path, form: str, out: Path | None, window: float, plain: bool
) -> None:
    """Write what the adapted model says of each video of the run, for other tools.

    Example: maxi export runs/mine --to label-studio
    """
    from maxi.stages.export import export_run

    with open_run(context, run, save=False) as job:
        out = out or job.run.exports / form
        say(f"{export_run(job, form, out, plain=plain, window=window)} is written")


@main.command()
@RUN
@click.option(
    "--retrain", is_flag=True, help="Also train again on matches that the answers correct."
)
@click.option(
    "--folds",
    default=2,
    show_default=True,
    type=click.IntRange(0, 10),
    help="Further trainings with --retrain, each measured on answers that it did not see; 0: no estimate.",
)
@click.pass_context
def refine(context: click.Context, /, run: Path, retrain: bool, folds: int) -> None:
    """Learn from the answers of some videos what the whole collection is like, in seconds: `maxi classify` uses it.

    With --retrain a new model comes into the folder `retrained` of the run, which is a run of its own.

    Example: maxi refine runs/mine
    """
    from maxi.reports.refinement import lines_of
    from maxi.stages import retrain as training
    from maxi.stages.refine import refine_run

    if folds == 1:
        raise click.UsageError("--folds is 0, or from 2 on: each training needs answers of its own")
    with open_run(context, run, save=False) as job:
        for line in lines_of(refine_run(job)):
            say(line)
        if retrain:
            for line in training.lines_of(job.run, training.retrain_run(job, folds)):
                say(line)


@main.command("open")
@RUN
@click.option("-n", default=40, show_default=True, type=click.IntRange(1), help="Clips to judge.")
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port on this machine (any free one if left out).",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@shared_options("set")
@click.pass_context
def open_pages(
    context: click.Context,
    /,
    run: Path,
    n: int,
    port: int,
    no_browser: bool,
    settings: tuple[str, ...],
) -> None:
    """Open RUN in the browser: overview, judge, bags, search, classify; Ctrl-C ends it.

    The address holds a token, without which the server answers nobody. Needs `pip install "maxi[app]"`.

    Example: maxi open runs/mine
    """
    _require_app()
    import webbrowser

    from maxi.app.desk import Desk
    from maxi.app.server import serve

    def opened(address: str) -> None:
        say(f"open {address}  (Ctrl-C ends it)")
        if not no_browser:
            webbrowser.open(address)

    with open_run(context, run, settings, save=False) as job:
        serve(Desk(job, n), port, opened)


def _require_app() -> None:
    """Raise MaxiError when the packages of the local pages are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MaxiError(
            f'maxi open needs {error.name}; install it with: pip install "maxi[app]"'
        ) from error
