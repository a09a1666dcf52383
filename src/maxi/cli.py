"""The `maxi` command: verbs that parse, call one function, and print. Results go to stdout, progress to stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxi.errors import MaxiError

if TYPE_CHECKING:
    from maxi.config import Config
    from maxi.jobs import Job

INTERRUPTED = 130


class Group(click.Group):
    """Turns what a user can mend into one sentence on stderr and an exit code: 1, or 130 for Ctrl-C."""

    def main(self, *args: Any, **extra: Any) -> Any:
        debug = "--debug" in sys.argv[1:]
        try:
            extra["standalone_mode"] = False
            code = super().main(*args, **extra)
        except click.exceptions.Exit as stop:
            code = stop.exit_code
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo(
                "\nmaxi: interrupted; finished work is kept, `adapt` goes on with --resume",
                err=True,
            )
            code = INTERRUPTED
        except Exception as error:
            if debug:
                raise
            click.echo(f"maxi: {_sentence(error)}", err=True)
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: BaseException) -> str:
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "allocate memory" in str(error):
        return "out of memory; lower `train.micro_batch` or `train.batch_size`, then add --resume"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename or 'the folder of the run'}: "
        return f"{where}{error.strerror}; finished stages are kept; mend this and run it again (`adapt` with --resume)"
    if isinstance(error, MaxiError):
        return " ".join(str(error).split())
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"unexpected error ({what}); finished stages are kept; run `maxi --debug ...` and report what it shows"


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="maxi")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings.")
@click.pass_context
def main(context: click.Context, /, debug: bool, quiet: bool) -> None:
    """Adapt a CLIP to the actions in your own unlabelled videos (MAXI, ICCV 2023).

    Example: maxi adapt videos/ --actions actions.txt -o runs/mine
    """
    logging.basicConfig(stream=sys.stderr, format="maxi: %(message)s", level=logging.ERROR)
    logging.getLogger("maxi").setLevel(logging.ERROR if quiet else logging.WARNING)
    for stream in (sys.stdout, sys.stderr):  # file names may be no UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Idle threads of torch would spin on the cores that the decoders need; it reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    context.obj = {"quiet": quiet}


def _options(*names: str) -> Callable[[Any], Any]:
    """The options that several verbs share."""
    table = {
        "actions": click.option(
            "--actions",
            required=True,
            type=click.Path(path_type=Path),
            help="Action names, one a line.",
        ),
        "out": click.option(
            "-o", "out", required=True, type=click.Path(path_type=Path), help="Folder of the run."
        ),
        "backbone": click.option(
            "--backbone", help="clip:ID_OR_PATH | miniature | objects | a saved model or run."
        ),
        "device": click.option("--device", help="auto, cpu, cuda, cuda:1 or mps."),
        "config": click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="YAML file of settings.",
        ),
        "set": click.option(
            "-s", "settings", multiple=True, metavar="KEY=VALUE", help="Override one setting."
        ),
        "max_skipped": click.option(
            "--max-skipped",
            type=click.FloatRange(0, 1),
            help="Unreadable share that stops the run (0.05).",
        ),
        "expander": click.option(
            "--expander",
            help="shipped | wordnet | file:PATH | hf:MODEL | openai:MODEL, joined with +.",
        ),
        "captioner": click.option(
            "--captioner", help="retrieval | blip[:MODEL] | file:PATH | openai:MODEL | none."
        ),
        "base_url": click.option(
            "--base-url", help="Server that speaks the OpenAI protocol (OpenAI's if left out)."
        ),
        "dry_run": click.option(
            "--dry-run", is_flag=True, help="Print calls, tokens and price, and ask nothing."
        ),
        "max_cost": click.option(
            "--max-cost", type=click.FloatRange(0), help="Dollars; needs `-s chat.prices=[IN,OUT]`."
        ),
        "max_calls": click.option(
            "--max-calls", type=click.IntRange(0), help="Calls after which it stops."
        ),
        "json": click.option("--json", "as_json", is_flag=True, help="Print JSON lines."),
    }

    def add(function: Any) -> Any:
        for name in reversed(names):
            function = table[name](function)
        return function

    return add


def _config(config_file: Path | None, settings: tuple[str, ...], **options: Any) -> Config:
    from maxi.config import load_config

    for name in ("max_skipped", "expander", "captioner", "base_url", "max_cost", "max_calls"):
        if (value := options.pop(name, None)) is not None:
            settings = (*settings, f"{name}={value}")
    return load_config(config_file, settings, **options)


def _progress(context: click.Context) -> Any:
    from maxi import progress

    return progress.silent if context.obj["quiet"] else progress.bar


@main.command()
@click.argument("videos")
@_options("actions", "out")
@click.option(
    "--eval", "labelled", help="Labelled videos (class folders or csv) to measure both models on."
)
@click.option(
    "--control",
    type=click.Choice(["shuffled"]),
    help="Also train with matches shuffled over the videos.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted or changed run.")
@_options("backbone", "expander", "captioner", "base_url", "device", "max_skipped", "config", "set")
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
    from maxi import pipeline

    if resume and config_file is None:
        config_file = pipeline.settings_to_resume(out, options["backbone"])
    config = _config(config_file, settings, **options)

    run = pipeline.adapt(
        videos,
        actions,
        out,
        config,
        labelled=labelled,
        control=control is not None,
        resume=resume,
        progress=_progress(context),
    )
    for line in pipeline.summary(run):
        click.echo(line)


@main.command()
@_options("out")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trials, one a seed."
)
@click.option(
    "--seed-offset",
    "offset",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The first seed.",
)
@click.option(
    "--validation", is_flag=True, help="Measure on the actions on which settings are chosen."
)
@_options("set")
@click.pass_context
def demo(
    context: click.Context,
    /,
    out: Path,
    seeds: int,
    offset: int,
    validation: bool,
    settings: tuple[str, ...],
) -> None:
    """Render a miniature action world, adapt a tiny CLIP to it, and show whether that helped.

    Needs no download and no GPU. Several seeds train every row of the proof.

    Example: maxi demo -o runs/demo
    """
    from maxi import demo as demonstration

    demonstration.demo(
        out,
        seeds=seeds,
        offset=offset,
        validation=validation,
        overrides=settings,
        progress=_progress(context),
    )
    for line in demonstration.outcome(out):
        click.echo(line)


@main.command()
@click.argument("videos")
@_options("max_skipped", "json")
@click.pass_context
def check(context: click.Context, /, videos: str, max_skipped: float | None, as_json: bool) -> None:
    """Decode every video once and list which are unreadable or end early, and why.

    Example: maxi check videos/
    """
    import tempfile

    from maxi.datasets import list_videos
    from maxi.decoding import Decoder
    from maxi.indexing import check_skipped, index_videos

    sources = list_videos(videos)
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:
        found, skipped = index_videos(
            sources,
            decoder,
            journal=Path(folder) / "journal",
            known={},
            progress=_progress(context),
        )
    for row in skipped:
        if as_json:
            click.echo(
                json.dumps(
                    {"path": row.path, "kind": row.kind, "reason": row.reason}, ensure_ascii=False
                )
            )
        else:
            click.echo(f"{row.kind:10}  {row.path}: {row.reason}")
    if not as_json:
        short = sum(s.kind == "short" for s in skipped)
        click.echo(
            f"{len(sources)} files: {len(found) - short} readable, {short} end early, {len(skipped) - short} unreadable"
        )
    share = 0.05 if max_skipped is None else max_skipped
    check_skipped(len(sources), skipped, share, "the list above")


@main.command()
@click.argument("videos")
@click.option("--model", "spec", required=True, help="A run folder, a saved model, or a backbone.")
@click.option(
    "--actions",
    type=click.Path(path_type=Path),
    help="Names, one a line (the run's own if left out).",
)
@click.option(
    "--window",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds; 0: whole video.",
)
@click.option("--prompt", help="Test prompt with {} for the name (the run's own if left out).")
@click.option(
    "-k", default=5, show_default=True, type=click.IntRange(1), help="Names shown per window."
)
@click.option(
    "--none", is_flag=True, help="Score for none of these: share of other actions that fit better."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@_options("json", "device")
@click.pass_context
def classify(context: click.Context, /, videos: str, spec: str, **options: Any) -> None:
    """Classify one video, or all VIDEOS of a folder or list, against any action names.

    Example: maxi classify clip.mp4 --model runs/mine --actions other.txt
    """
    from maxi.classification import lines_of
    from maxi.pipeline import classify_videos

    as_json, as_csv = options.pop("as_json"), options.pop("as_csv")
    form = "json" if as_json else "csv" if as_csv else "text"
    rows = classify_videos(videos, spec, progress=_progress(context), **options)

    failed = []

    def reported() -> Any:
        for row in rows:
            if isinstance(row, MaxiError):
                click.echo(f"maxi: {row}", err=True)
            failed.append(isinstance(row, MaxiError))
            yield row

    for line in lines_of(reported(), form):
        click.echo(line)
    if all(failed):
        raise MaxiError(f"none of the {len(failed)} videos could be classified")


@main.command()
@click.argument("videos")
@_options("actions", "out")
@_options("backbone", "device", "max_skipped", "config", "set")
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
    from maxi import pipeline
    from maxi.datasets import read_names

    config_file = config_file or pipeline.settings_to_resume(out, options["backbone"])
    config = _config(config_file, settings, **options)
    names = read_names(actions)
    with pipeline.open_job(out, config, _progress(context)) as job:
        pipeline.start(job, names)
        found = pipeline.index(job, videos)
    click.echo(f"{len(found)} videos in {job.run.manifest}")


def _stage(name: str, done: Callable[[Job, Any], str]) -> None:
    """Add the verb of a stage: `maxi NAME RUN`, with `-s` kept in the run's settings."""
    from_pipeline = {"train": "improve", "eval": "evaluate"}.get(name, name)

    def run_stage(context: click.Context, /, run: Path, settings: tuple[str, ...]) -> None:
        from maxi import pipeline
        from maxi.runs import Run

        config = _config(Run(run).existing().config, settings)
        with pipeline.open_job(run, config, _progress(context)) as job:
            job.save_settings()
            click.echo(done(job, getattr(pipeline, from_pipeline)(job)))

    run_stage.__doc__ = f"{HELP[name]}\n\n    Example: maxi {name} runs/mine"
    command = click.pass_context(run_stage)
    command = click.argument("run", type=click.Path(path_type=Path))(_options("set")(command))
    main.command(name)(command)


HELP = {
    "match": "Match every video of RUN to its dictionary: matches.jsonl.",
    "bag": "Put matches, phrases and captions of RUN into text bags: bags.jsonl, which may be edited by hand.",
    "train": "Train on RUN's bags, going on from its last checkpoint: model/.",
    "report": "Draw RUN's report.html anew.",
}
_stage(
    "match",
    lambda job, rows: f"{sum(r.kept for r in rows)} of {len(rows)} kept in {job.run.matches}",
)
_stage("bag", lambda job, rows: f"{len(rows)} bags in {job.run.bags}")
_stage("train", lambda job, done: f"{done['steps']} steps; the adapted model is {job.run.model}")
_stage("report", lambda job, path: f"the report is {path}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@_options("expander", "base_url", "dry_run", "max_cost", "max_calls", "set")
@click.pass_context
def expand(context: click.Context, /, run: Path, **options: Any) -> None:
    """Write phrases for each name of RUN's dictionary: phrases.jsonl.

    Example: maxi expand runs/mine --expander openai:gpt-4o-mini --dry-run
    """
    _ask(context, run, "expand", **options)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@_options("captioner", "base_url", "dry_run", "max_cost", "max_calls", "set")
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
    from maxi import pipeline
    from maxi.runs import Run

    config = _config(Run(run).existing().config, settings, **options)
    with pipeline.open_job(run, config, _progress(context)) as job:
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
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["hf", "open_clip", "onnx"]),
    default="hf",
    show_default=True,
    help="Layout to write.",
)
@click.option("--base", help="CLIP from which weights are taken that SOURCE lacks.")
def convert(source: str, out: Path, to: str, base: str | None) -> None:
    """Write a CLIP into the folder OUT in another layout.

    SOURCE is a run or model folder, `clip:ID`, OpenAI's .pt, an open_clip folder or state dict, or a checkpoint of the
    X-CLIP family (ViFi-CLIP, MAXI).

    Example: maxi convert ViT-B-16.pt models/vit-b-16
    """
    from maxi import exports

    click.echo(exports.convert(source, out, to, base))


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
@_options("set")
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
    from maxi import pipeline
    from maxi.datasets import read_names
    from maxi.runs import Run

    config = _config(Run(run).existing().config, settings)
    with pipeline.open_job(run, config, _progress(context)) as job:
        job.save_settings()
        if labelled:
            pipeline.index(job, labelled, job.run.eval)
        pipeline.evaluate(job, names=read_names(names) if names else None)
    for line in pipeline.summary(job.run):
        click.echo(line)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", default=40, show_default=True, type=click.IntRange(10), help="Clips to judge.")
@click.pass_context
def verify(context: click.Context, /, run: Path, n: int) -> None:
    """Write a page on which a person judges sampled clips, and both models' accuracy is estimated.

    Example: maxi verify runs/mine -n 40
    """
    from maxi import pipeline
    from maxi.runs import Run

    config = _config(Run(run).existing().config, ())
    with pipeline.open_job(run, config, _progress(context)) as job:
        click.echo(f"open {pipeline.verify(job, n)} in a browser")
