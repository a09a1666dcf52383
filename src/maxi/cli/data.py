"""Verbs of the `maxi` command for the field's datasets: what there is, and what of it a folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from maxi.cli.group import NewFolder, main, numbers_of, progress_of, shared_options
from maxi.cli.output import say
from maxi.errors import MaxiError


@main.group("data")
def data_group() -> None:
    """Look at the field's datasets: which there are, and what of them is on disk.

    Example: maxi data check ucf101 /data/UCF-101 --lists lists
    """


@data_group.command("list")
@shared_options("json")
def list_presets(as_json: bool) -> None:
    """List the datasets that have a preset, with their official numbers of videos, and the lists that are read.

    Example: maxi data list
    """
    from maxi.datasets.presets import PRESETS

    for preset in PRESETS.values():
        if as_json:
            row = {"name": preset.name, "title": preset.title, "names": preset.n_names}
            say(json.dumps(row | {"videos": dict(preset.counts), "lists": preset.needs}))
            continue
        counts = ", ".join(f"{split}: {n:,}" for split, n in preset.counts.items())
        say(f"{preset.name:10} {preset.title}: {preset.n_names} names; videos of split {counts}")
        say(f"{'':10} lists: {preset.needs}")


@data_group.command()
@click.argument("captions", type=click.Path(path_type=Path))
@click.option("-n", "n", type=click.IntRange(1), default=400, show_default=True, help="Verbs.")
@click.option(
    "--actions",
    type=click.Path(path_type=Path),
    help="Action names that come first; verbs among them are not repeated.",
)
def verbs(captions: Path, n: int, actions: Path | None) -> None:
    """Print the commonest verbs of the file CAPTIONS as action names (Tables 5 and 9).

    CAPTIONS holds one caption a line, or is a run's captions.jsonl or a csv with the column caption or name.

    Example: maxi data verbs captions.txt -n 400 --actions actions.txt > more-actions.txt
    """
    from maxi.text.verb_names import verb_names
    from maxi.video.sources import read_captions, read_names

    names = read_names(actions) if actions else []
    found = verb_names(read_captions(captions), n, names)
    if not found:
        raise MaxiError(f"{captions} names no verb that is not among the names; check the file")
    for name in [*names, *found]:
        say(name)


@data_group.command()
@click.argument("name")
@click.argument("root")
@shared_options("lists")
@shared_options("json")
def check(name: str, root: str, lists: Path | None, as_json: bool) -> None:
    """Compare what ROOT holds of the dataset NAME with its official lists, split by split and name by name.

    NAME is one of `maxi data list`, or `own` for class folders or a csv with path and label. The exit code is 1 when
    something is missing.

    Example: maxi data check ucf101 /data/UCF-101 --lists lists
    """
    from maxi.datasets.check import check_dataset

    checked = check_dataset(name, root, lists)
    for line in checked.json_lines() if as_json else checked.lines():
        say(line)
    if not checked.is_complete:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("model", metavar="RUN_OR_MODEL")
@click.option(
    "--on",
    "spec",
    required=True,
    help="NAME:ROOT of a dataset, or a csv with path, label and split.",
)
@click.option(
    "--shots", default="2,4,8,16", show_default=True, help="Numbers of videos of each name."
)
@click.option(
    "--draws",
    type=click.IntRange(0, 1000),
    default=0,
    help="Draw the videos so many times from the training videos, in place of the published list.",
)
@click.option(
    "--base-to-novel",
    "novel",
    is_flag=True,
    help="Train on 16 videos of each base name, and measure on base and on novel names.",
)
@shared_options("lists")
@click.option(
    "-o",
    "out",
    required=True,
    type=NewFolder(path_type=Path),
    help="Folder of the runs and of results.json.",
)
@shared_options("device", "set")
@click.pass_context
def fewshot(
    context: click.Context,
    /,
    model: str,
    spec: str,
    shots: str,
    draws: int,
    novel: bool,
    lists: Path | None,
    out: Path,
    device: str | None,
    settings: tuple[str, ...],
) -> None:
    """Train a run's adapted model, or any model, on K labelled videos of each name of a dataset, and measure it.

    Example: maxi fewshot runs/k400 --on hmdb51:/data/hmdb --lists lists --shots 2,4 -o runs/few
    """
    from maxi.reports.datasets import table_of
    from maxi.settings import load_config, recipe
    from maxi.stages.few_shot import base_to_novel, few_shot

    given = context.get_parameter_source("shots")
    if novel and given is ParameterSource.COMMANDLINE:
        raise click.UsageError("--base-to-novel trains on 16 videos a name; leave out --shots")
    ks = numbers_of("--shots", shots, int, 1, 100_000)
    config = load_config(recipe("few_shot"), settings, backbone=model, device=device)
    options: dict[str, Any] = {"lists": lists, "draws": draws, "progress": progress_of(context)}
    measured = (
        base_to_novel(config, spec, out, **options)
        if novel
        else few_shot(config, spec, ks, out, **options)
    )
    for line in table_of(measured):
        say(line)


@main.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--anyway", is_flag=True, help="Subtract figures that were measured on different things."
)
def compare(first: Path, second: Path, anyway: bool) -> None:
    """Compare two results.json of `maxi eval --on`, FIRST and SECOND: what differs in conditions, then the figures.

    Example: maxi compare results/frozen results/adapted
    """
    from maxi.reports.comparison import compare_files

    for line in compare_files(first, second, anyway=anyway):
        say(line)
