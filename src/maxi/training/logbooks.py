"""Where training's figures go beside train.jsonl: TensorBoard's event files, and Weights & Biases where asked."""

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
"""What takes the figures of a step, and what ends it."""


@contextmanager
def open_logbooks(run: Run, config: TrainConfig, start: int) -> Iterator[Callable[[Row], None]]:
    """What takes the rows of `train.jsonl` from step `start` on and passes every number on.

    A logbook that fails is told once and left out. Raises MaxiError when Weights & Biases is asked for and missing.
    """
    books = {"TensorBoard": lambda: _tensorboard(run.tensorboard, start)}
    if config.wandb:
        require_wandb(config)
        books["Weights & Biases"] = lambda: _wandb(run, config, start)
    with ExitStack() as stack:
        writers = [stack.enter_context(_forgiven(*named)) for named in books.items()]

        def write(row: Row) -> None:
            values = {
                name: value
                for name, value in row.items()
                if isinstance(value, int | float) and name not in ("step", "epoch")
            }
            for writer in writers:
                writer(row["step"], values)

        yield write


def require_wandb(config: TrainConfig) -> None:
    """MaxiError when `train.wandb` asks for a package that is not installed."""
    if config.wandb:
        try:
            from wandb import init  # noqa: F401  a folder `wandb` here would pass for the package
        except ImportError as error:
            raise MaxiError(
                f"train.wandb={config.wandb} needs the package wandb; pip install wandb, or leave it out"
            ) from error


@contextmanager
def _forgiven(name: str, make: Callable[[], Book | None]) -> Iterator[Write]:
    """A logbook's `write` that after the first error warns and then does nothing."""
    broken = False

    def attempt(act: Callable[..., Any], *given: Any) -> Any:
        nonlocal broken
        if not broken:
            try:
                return act(*given)
            except Exception as error:  # whatever it is, no log is worth a training
                broken = True
                said = " ".join(str(error).split()) or type(error).__name__
                logger.warning("%s: no more is logged there, training goes on (%s)", name, said)
        return None

    write, close = attempt(make) or (lambda step, values: None, lambda: None)
    try:
        yield lambda step, values: attempt(write, step, values)
    finally:
        attempt(close)


def _tensorboard(folder: Path, start: int) -> Book | None:
    """Event files, where the package is installed.

    Written here rather than by torch's SummaryWriter, whose thread would print a traceback when the disk is full.
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

    def add(step: int, **what: Any) -> None:
        records.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())

    def write(step: int, values: dict[str, float]) -> None:
        add(step, summary=Summary(value=[{"tag": k, "simple_value": v} for k, v in values.items()]))

    add(0, file_version="brain.Event:2")
    # From here on it forgets the steps of earlier files: those after the checkpoint come once more.
    add(start, session_log=SessionLog(status=SessionLog.START))
    return write, file.close


def _wandb(run: Run, config: TrainConfig, start: int) -> Book:
    """A run of the project `train.wandb`, gone on with when training is; neither output nor code is sent."""
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
