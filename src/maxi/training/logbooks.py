"""Logbooks beside train.jsonl: TensorBoard's event files, and Weights & Biases when it is asked for."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.files import write_text
from maxi.run import Run

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Write = Callable[[int, dict[str, float]], None]
Book = tuple[Write, Callable[[], None]]
"""A function that takes the numbers of a step, and a function that closes the logbook."""


@contextmanager
def open_logbooks(run: Run, config: TrainConfig, start: int) -> Iterator[Callable[[Row], None]]:
    """Open the logbooks, and return a function that takes rows of `train.jsonl` and writes their numbers to all books.

    `start` is the number of the first step. A logbook that fails is reported once and then left out. Raises MaxiError
    when Weights & Biases is asked for and not installed.
    """
    books = {"TensorBoard": lambda: _tensorboard(run.tensorboard, start)}
    if config.wandb:
        require_wandb(config)
        books["Weights & Biases"] = lambda: _wandb(run, config, start)
    with ExitStack() as stack:
        writes = [stack.enter_context(_forgiven(name, make)) for name, make in books.items()]

        def write_to_all(row: Row) -> None:
            values = {
                name: value
                for name, value in row.items()
                if isinstance(value, int | float) and name not in ("step", "epoch")
            }
            for write in writes:
                write(row["step"], values)

        yield write_to_all


def require_wandb(config: TrainConfig) -> None:
    """Raise MaxiError when `train.wandb` is set and the package is not installed."""
    if config.wandb:
        try:
            # Not `import wandb`, which would succeed with any folder of that name in the working directory.
            from wandb import init  # noqa: F401
        except ImportError as error:
            raise MaxiError(
                f"train.wandb={config.wandb} needs the package wandb; run `pip install wandb`, or leave it out"
            ) from error


@contextmanager
def _forgiven(name: str, make: Callable[[], Book | None]) -> Iterator[Write]:
    """Make a logbook and return its `write`; after the first error it warns once, and from then on does nothing."""
    broken = False

    def attempt(action: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal broken
        if not broken:
            try:
                return action(*arguments)
            except Exception as error:  # no error of a logbook is worth the end of a training
                broken = True
                reason = " ".join(str(error).split()) or type(error).__name__
                logger.warning("%s: no more is logged there, training goes on (%s)", name, reason)
        return None

    write, close = attempt(make) or (lambda step, values: None, lambda: None)
    try:
        yield lambda step, values: attempt(write, step, values)
    finally:
        attempt(close)


def _tensorboard(folder: Path, start: int) -> Book | None:
    """Open an event file for TensorBoard, or return None when the package is not installed.

    The file is written here, not by torch's SummaryWriter, whose thread prints a traceback when the disk is full.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads the files of a folder in the order of their names.
    file = (folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}").open("wb", buffering=0)
    records = RecordWriter(file)

    def add(step: int, **content: Any) -> None:
        records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

    def write(step: int, values: dict[str, float]) -> None:
        add(step, summary=Summary(value=[{"tag": k, "simple_value": v} for k, v in values.items()]))

    add(0, file_version="brain.Event:2")
    # Let TensorBoard forget later steps of earlier files: a resumed training repeats the steps after the checkpoint.
    add(start, session_log=SessionLog(status=SessionLog.START))
    return write, file.close


def _wandb(run: Run, config: TrainConfig, start: int) -> Book:
    """Open a run of the project `train.wandb`, or resume it with the training; neither output nor code is sent."""
    import wandb

    if start == 0 or not run.wandb.is_file():
        write_text(run.wandb, [uuid.uuid4().hex])
    book = wandb.init(
        project=config.wandb,
        name=run.folder.resolve().name,
        id=run.wandb.read_text(encoding="utf-8"),
        resume="allow",
        dir=run.folder,
        config=config.model_dump(mode="json"),
        settings={"console": "off", "disable_git": True, "save_code": False},
    )

    def write(step: int, values: dict[str, float]) -> None:
        book.log(values, step=step)

    return write, book.finish
