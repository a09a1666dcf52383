"""Verbs of the `maxi` command for a whole task; those for single stages are in `stages.py`.

A verb parses its options, calls one function, and prints. Results go to stdout, progress goes to stderr.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from maxi.cli.group import main, progress_of, shared_options
from maxi.cli.output import say
from maxi.errors import MaxiError


@main.command()
@click.argument("videos")
@shared_options("actions", "out")
@click.option(
    "--eval",
    "labelled",
    help="Labelled videos to measure both models on: class folders, or a csv with path and label.",
)
@click.option(
    "--control",
    type=click.Choice(["shuffled"]),
    help="Also train on the same bags, dealt out to the wrong videos.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted or changed run.")
@shared_options(
    "backbone",
    "expander",
    "captioner",
    "base_url",
    "device",
    "segment",
    "max_skipped",
    "config",
    "set",
)
@click.pass_context
def adapt(
    context: click.Context,
    /,
    videos: str,
    actions: Path,
    out: Path,
    labelled: str | None,
    control: str | None,
    resume: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Adapt a model to unlabelled VIDEOS: match, expand, caption, bag, train, evaluate, report.

    VIDEOS is a folder, a video, a csv with a `path` column (X.csv:SPLIT keeps one split) or a text file of paths.

    Example: maxi adapt videos/ --actions actions.txt -o runs/mine --backbone objects
    """
    from maxi.stages.adapt import adapt
    from maxi.stages.job import load_to_resume
    from maxi.stages.report import summary_of

    config = load_to_resume(out if resume else None, config_file, settings, **options)

    run = adapt(
        videos,
        actions,
        out,
        config,
        labelled=labelled,
        control=control is not None,
        resume=resume,
        progress=progress_of(context),
    )
    for line in summary_of(run):
        say(line)


@main.command()
@shared_options("out")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of trials, each with its own seed; several train every row of the proof.",
)
@shared_options("seed_offset")
@click.option(
    "--full",
    is_flag=True,
    help="Take more videos, and train the shuffled control; always so with several seeds.",
)
@click.option(
    "--validation",
    is_flag=True,
    help="Measure on the actions on which settings are chosen, in place of the unseen ones.",
)
@shared_options("set")
@click.pass_context
def demo(
    context: click.Context,
    /,
    out: Path,
    seeds: int,
    offset: int,
    full: bool,
    validation: bool,
    settings: tuple[str, ...],
) -> None:
    """Render a miniature action world, adapt a tiny CLIP to it, and show whether that helped.

    Needs no download and no GPU. Several seeds train every row of the proof.

    Example: maxi demo -o runs/demo
    """
    from maxi.demo import proof as demonstration
    from maxi.demo.trial import parts_of
    from maxi.progress import Parts, bar

    demonstration.demo(
        out,
        seeds=seeds,
        offset=offset,
        full=full,
        validation=validation,
        overrides=settings,
        progress=progress_of(context, Parts(parts_of(full)) if seeds == 1 else bar),
    )
    for line in demonstration.outcome(out):
        say(line)


@main.command()
@click.argument("videos")
@shared_options("max_skipped", "json")
@click.pass_context
def check(context: click.Context, /, videos: str, max_skipped: float | None, as_json: bool) -> None:
    """Decode every video once and list which are unreadable or end early, and why.

    Example: maxi check videos/
    """
    from maxi.stages.check import check_videos

    checked = check_videos(videos, progress=progress_of(context))
    for line in checked.json_lines() if as_json else checked.lines():
        say(line)
    checked.refuse(max_skipped)


@main.command()
@click.argument("videos")
@click.option("--model", "spec", required=True, help="A run folder, a saved model, or a backbone.")
@click.option(
    "--actions",
    type=click.Path(path_type=Path),
    help="Names to choose from, one a line (the run's own if left out).",
)
@click.option(
    "--window",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Cut a video into windows of about this many seconds; 0: the whole video at once.",
)
@click.option("--prompt", help="Test prompt with {} for the name (the run's own if left out).")
@click.option(
    "-k", default=5, show_default=True, type=click.IntRange(1), help="Names shown per window."
)
@click.option(
    "--none",
    is_flag=True,
    help="Add a score for none of these: the share of other actions that fit better.",
)
@click.option("--plain", is_flag=True, help="Leave out the refinement of the run.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@shared_options("json", "device")
@click.pass_context
def classify(context: click.Context, /, videos: str, spec: str, **options: Any) -> None:
    """Classify one video, or all VIDEOS of a folder or list, against any action names.

    Example: maxi classify clip.mp4 --model runs/mine --actions other.txt
    """
    from maxi.method.classification import lines_of
    from maxi.stages.classify import classify_videos

    as_json, as_csv = options.pop("as_json"), options.pop("as_csv")
    form = "json" if as_json else "csv" if as_csv else "text"
    answers = classify_videos(videos, spec, progress=progress_of(context), **options)

    for line in lines_of(_with_errors_shown(answers), form):
        say(line, data=as_csv)


def _with_errors_shown(answers: Iterator[Any]) -> Iterator[Any]:
    for answer in answers:
        if isinstance(answer, MaxiError):
            say(f"maxi: {answer}", err=True)
        yield answer


@main.command("convert")
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["hf", "open_clip", "onnx"]),
    default="hf",
    show_default=True,
    help="Layout to write.",
)
@click.option(
    "--base",
    help="A CLIP that gives the weights, the tokenizer and the settings that SOURCE lacks.",
)
def convert_model(source: str, out: Path, to: str, base: str | None) -> None:
    """Write a CLIP or SigLIP into the folder OUT in another layout.

    SOURCE is a run or model folder, `clip:ID`, `siglip:ID`, OpenAI's .pt, an open_clip folder or state dict, or a
    checkpoint of the X-CLIP family (ViFi-CLIP, MAXI).

    Example: maxi convert ViT-B-16.pt models/vit-b-16
    """
    from maxi.models.export import convert

    say(convert(source, out, to, base))


@main.command()
@click.argument("video")
@click.option("--text", required=True, help="The text that patches are compared with.")
@click.option(
    "--models",
    required=True,
    help="Models side by side, separated by commas: runs, saved models or backbones.",
)
@click.option(
    "-o", "out", required=True, type=click.Path(path_type=Path), help="The .png or .mp4 to write."
)
@click.option(
    "-n", "n_frames", default=8, show_default=True, type=click.IntRange(1, 64), help="Frames."
)
@shared_options("device")
def heatmap(
    video: str, text: str, models: str, out: Path, n_frames: int, device: str | None
) -> None:
    """Show where models see a text in the frames of VIDEO, side by side and on one scale of colours.

    Example: maxi heatmap clip.mp4 --text clap --models clip:path/to/clip,runs/mine -o clap.png
    """
    from maxi.stages.heatmap import write_heatmap

    specs = [spec.strip() for spec in models.split(",") if spec.strip()]
    if not specs or not text.strip():
        raise click.UsageError("--models and --text must not be empty")
    for line in write_heatmap(video, text, specs, out, n_frames=n_frames, device=device):
        say(line)
