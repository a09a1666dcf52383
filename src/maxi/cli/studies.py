"""Verbs of the `maxi` command for studies: the paper's tables as commands."""

from __future__ import annotations

from pathlib import Path

import click

from maxi.cli.group import NewFolder, main, progress_of, shared_options
from maxi.cli.output import say

_jobs = click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Rows trained or measured at the same time; by default the cores, at most 8, and 1 on videos of your own.",
)


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "-o", "out", required=True, type=NewFolder(path_type=Path), help="Folder of runs and tables."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of seeds; each renders its own videos and trains every row.",
)
@shared_options("seed_offset")
@click.option("--videos", help="Videos of your own, in place of the rendered world.")
@click.option("--actions", type=click.Path(path_type=Path), help="Their action names, one a line.")
@click.option("--eval", "labelled", help="Labelled videos to measure on.")
@_jobs
@shared_options("backbone", "config", "set")
@click.pass_context
def study(
    context: click.Context,
    /,
    names: tuple[str, ...],
    out: Path,
    seeds: int,
    offset: int,
    videos: str | None,
    actions: Path | None,
    labelled: str | None,
    jobs: int | None,
    backbone: str | None,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Train the rows of studies, such as the paper's tables, and say what differs: table, figure and sentences.

    NAMES are some of sources, rivals, domains, fewshot, keep, dictionary, bagcontents, objective, bagsize, temporal,
    ensemble, contrast, frames, control, collections and cures, or `all`.

    Example: maxi study objective -o studies
    """
    from maxi.studies.run import Own, lines_of, run_studies

    own = None
    if videos or actions or labelled:
        if not (videos and actions and labelled):
            raise click.UsageError(
                "--videos, --actions and --eval go together: give all of them, or none"
            )
        own = Own(videos, actions, labelled)
    run_studies(
        names,
        out,
        seeds=seeds,
        offset=offset,
        own=own,
        config_file=config_file,
        overrides=settings,
        backbone=backbone,
        jobs=jobs,
        progress=progress_of(context),
    )
    for line in lines_of(out, names):
        say(line)


@main.command()
@click.option(
    "-o",
    "page",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page, in Markdown; figures go into a folder of its name.",
)
@click.option(
    "--runs", required=True, type=NewFolder(path_type=Path), help="Folder of runs and tables."
)
@click.option(
    "--studies", help="Some of the studies, with commas between them; default: all but `cures`."
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds.")
@_jobs
@shared_options("set")
@click.pass_context
def paper(
    context: click.Context,
    /,
    page: Path,
    runs: Path,
    studies: str | None,
    seeds: int,
    jobs: int | None,
    settings: tuple[str, ...],
) -> None:
    """Run the studies on the rendered world, and write one page of what agrees with the paper.

    Example: maxi paper -o paper.md --runs runs/paper
    """
    from maxi.studies.paper import PAPER, write_paper

    names = [part.strip() for part in studies.split(",")] if studies else PAPER
    write_paper(
        page,
        runs,
        names,
        seeds=seeds,
        jobs=jobs,
        overrides=settings,
        progress=progress_of(context),
    )
    say(f"the page is {page}")
