"""Verbs of the `maxi` command for a whole task; those for single stages are in `stages.py`.

A verb parses its options, calls one function, and prints. Results go to stdout, progress goes to stderr.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from maxi.cli.group import main, open_run, progress_of, shared_options
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
@click.argument("run", type=click.Path(path_type=Path))
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
@click.argument("run", type=click.Path(path_type=Path))
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
@click.argument("run", type=click.Path(path_type=Path))
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
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["segments.csv", "label-studio", "fiftyone", "videofolder", "parquet"]),
    default="segments.csv",
    show_default=True,
    help="The tool that is to read it.",
)
@click.option(
    "-o", "out", required=True, type=click.Path(file_okay=False, path_type=Path), help="New folder."
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
    context: click.Context, /, run: Path, form: str, out: Path, window: float, plain: bool
) -> None:
    """Write what the adapted model says of each video of the run, for other tools.

    Example: maxi export runs/mine --to label-studio -o tasks
    """
    from maxi.stages.export import export_run

    with open_run(context, run, save=False) as job:
        say(f"{export_run(job, form, out, plain=plain, window=window)} is written")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
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
@click.argument("run", type=click.Path(path_type=Path))
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
    require_app()
    import webbrowser

    from maxi.app.desk import Desk
    from maxi.app.server import serve

    def opened(address: str) -> None:
        say(f"open {address}  (Ctrl-C ends it)")
        if not no_browser:
            webbrowser.open(address)

    with open_run(context, run, settings, save=False) as job:
        serve(Desk(job, n), port, opened)


def require_app() -> None:
    """Raise MaxiError when the packages of the local pages are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MaxiError(
            f'maxi open needs {error.name}; install it with: pip install "maxi[app]"'
        ) from error


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
