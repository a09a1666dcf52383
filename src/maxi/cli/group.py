"""Parts that all verbs of the `maxi` command share: the group, its errors, common options, and opening a run."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from maxi.cli.output import Formatter, drop_output, is_of_output, say
from maxi.errors import MaxiError
from maxi.progress import heed_interrupts

if TYPE_CHECKING:
    from maxi.progress import Progress
    from maxi.stages.job import Job

INTERRUPTED = 130
CLOSED_PIPE = 141

CURES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in your quota",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "change the permissions",
    errno.EPERM: "change the permissions",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}
"""What to do about an error of the system, by its number."""


class Group(click.Group):
    """A group that turns errors into one sentence on stderr and an exit code: 1, or 130 for Ctrl-C."""

    def main(self, *args: Any, **extra: Any) -> Any:
        debug = "--debug" in sys.argv[1:]
        heed_interrupts()
        try:
            extra["standalone_mode"] = False
            code = super().main(*args, **extra)
        except click.exceptions.Exit as stop:
            code = stop.exit_code
        except click.ClickException as error:
            shown = io.StringIO()
            error.show(shown)
            for line in shown.getvalue().splitlines():
                say(line, err=True)
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            sentence = "interrupted; finished work is kept, `adapt` goes on with --resume"
            say("", err=True)
            say(f"maxi: {sentence}", err=True)
            code = INTERRUPTED
        except SystemExit:  # so click ends it when the reader, such as `head`, has enough
            code = CLOSED_PIPE
        except Exception as error:
            if debug:
                raise
            if is_of_output(error):
                drop_output()
            code = CLOSED_PIPE if isinstance(error, BrokenPipeError) else 1
            with suppress(OSError):
                say(f"maxi: {_sentence(error)}", err=True)
        status = code if isinstance(code, int) else 0
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # All files are written. To end as usual is not safe: threads of gloo now and then abort the process.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        sys.exit(status)


def _sentence(error: BaseException) -> str:
    """Return one sentence that says what went wrong and what to do next."""
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "allocate memory" in str(error):
        return "out of memory; lower `train.micro_batch` or `train.batch_size`, then add --resume"
    if is_of_output(error):
        reason = getattr(error, "strerror", None) or "it is closed"
        return (
            f"what the command prints cannot be written ({reason}); make room, or send it elsewhere"
        )
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename or 'the folder of the run'}: "
        cure = CURES.get(error.errno or 0, "see to it that this path can be read and written")
        return (
            f"{where}{error.strerror}; {cure}, then run the command again (`adapt` with --resume); finished stages "
            "are kept"
        )
    if isinstance(error, MaxiError):
        return " ".join(str(error).split())
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"unexpected error ({what}); finished stages are kept: run `maxi --debug ...` and report what it shows"


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="maxi")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.pass_context
def main(context: click.Context, /, debug: bool, quiet: bool) -> None:
    """Adapt a CLIP to the actions in your own unlabelled videos (MAXI, ICCV 2023).

    Example: maxi adapt videos/ --actions actions.txt -o runs/mine
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("maxi: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    logging.getLogger("maxi").setLevel(logging.ERROR if quiet else logging.WARNING)
    for stream in (sys.stdout, sys.stderr):  # a file name need not be valid UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Idle threads of torch would spin on the cores that the decoders need. Torch reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    context.obj = {"quiet": quiet}


class NewFolder(click.Path):
    """A folder to write into. An empty name, as of a variable that is not set, is not the current folder."""

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        if not str(value).strip():
            self.fail("the name is empty", parameter, context)
        return super().convert(value, parameter, context)


RUN = click.argument("run", type=click.Path(path_type=Path))


def shared_options(*names: str) -> Callable[[Any], Any]:
    """Return a decorator that adds these options, by name, to a verb."""
    options = {
        "actions": click.option(
            "--actions",
            required=True,
            type=click.Path(path_type=Path),
            help="The action names, one a line.",
        ),
        "out": click.option(
            "-o", "out", required=True, type=NewFolder(path_type=Path), help="Folder of the run."
        ),
        "backbone": click.option(
            "--backbone",
            help="clip:ID_OR_PATH | siglip:ID_OR_PATH | miniature | objects | a saved model or run.",
        ),
        "device": click.option("--device", help="auto, cpu, cuda, cuda:1 or mps."),
        "config": click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="YAML file of settings, or a recipe: k400_vitb16 | few_shot | supervised ...",
        ),
        "set": click.option(
            "-s", "settings", multiple=True, metavar="KEY=VALUE", help="Override one setting."
        ),
        "max_skipped": click.option(
            "--max-skipped",
            type=click.FloatRange(0, 1),
            help="Stop when more than this share of the files is unreadable (0.05).",
        ),
        "segment": click.option(
            "--segment",
            type=click.FloatRange(0),
            help="Cut each video into windows of about so many seconds; 0: none is cut (the default).",
        ),
        "lists": click.option(
            "--lists",
            type=click.Path(path_type=Path),
            help="Folder of the lists and names of datasets (each ROOT, if left out).",
        ),
        "seed_offset": click.option(
            "--seed-offset",
            "offset",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="The first seed.",
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
            "--dry-run",
            is_flag=True,
            help="Print the number of calls and tokens and the price, and ask nothing.",
        ),
        "max_cost": click.option(
            "--max-cost",
            type=click.FloatRange(0),
            help="Stop before a call could pass these dollars; needs `-s chat.prices=[IN,OUT]`.",
        ),
        "max_calls": click.option(
            "--max-calls", type=click.IntRange(0), help="Stop after this number of calls."
        ),
        "json": click.option("--json", "as_json", is_flag=True, help="Print JSON lines."),
    }

    def add(function: Any) -> Any:
        for name in reversed(names):
            function = options[name](function)
        return function

    return add


Number = TypeVar("Number", int, float)
Choice = TypeVar("Choice", bound=str)


def numbers_of(
    option: str, text: str | None, kind: type[Number], low: float, high: float
) -> list[Number]:
    """Return the numbers of a list such as `2,4,8`, each once and in order; [] when the option is left out."""
    try:
        numbers = sorted({kind(part) for part in text.split(",")}) if text else []
    except ValueError:
        numbers = []
    if text and not (numbers and low <= numbers[0] and numbers[-1] <= high):
        raise click.UsageError(
            f"{option} is {text!r}, not numbers from {low:g} to {high:g} with commas between them"
        )
    return numbers


def chosen_of(option: str, text: str | None, choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices of a list such as `prompt,templates`; [] when the option is left out."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if unknown := [part for part in parts if part not in choices]:
        raise click.UsageError(
            f"{option}: {unknown[0]!r} is none of {', '.join(choices)}; give some of them with commas between them"
        )
    return [choice for choice in choices if choice in parts]


def progress_of(context: click.Context, shown: Progress | None = None) -> Progress:
    """Return how progress is shown: `shown`, or by default a bar for each loop; nothing with `-q`."""
    from maxi import progress

    return progress.silent if context.obj["quiet"] else shown or progress.bar


@contextmanager
def open_run(
    context: click.Context,
    folder: Path,
    settings: tuple[str, ...] = (),
    *,
    together: bool = False,
    save: bool = True,
    **options: Any,
) -> Iterator[Job]:
    """Open a job on the run in `folder`, with the run's settings and the changes that the command line asks for.

    With `save` the changes stay in the run's `config.yaml`. Raises MaxiError when there is no run in the folder.
    """
    from maxi.run import Run
    from maxi.settings import load_run
    from maxi.stages.job import open_job

    config = load_run(Run(folder).existing().config, settings, **options)
    with open_job(folder, config, progress_of(context), together=together) as job:
        if save:
            job.save_settings()
        yield job
