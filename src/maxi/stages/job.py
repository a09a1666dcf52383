"""Job: the run, settings, decoders and models that every stage works with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import torch

from maxi import trust
from maxi.config import Config
from maxi.errors import MaxiError
from maxi.files import write_text
from maxi.models.load import saved_spec
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.processes import n_cores
from maxi.progress import Progress, bar, silent
from maxi.records import Skipped, Video
from maxi.run import Run, lock
from maxi.settings import dump_config, load_config, load_run
from maxi.training.distributed import World, n_processes, world
from maxi.video.sources import read_names
from maxi.video.workers import Decoder

logger = logging.getLogger(__name__)

ALONE = World()
FEW_SKIPPED = 5  # this many unreadable files never stop a run


@dataclass
class Job:
    """The run's folder, its settings, the decoders, the progress and the models that every stage works with.

    `unfinished` says that videos could not be read for a reason that may pass.
    """

    run: Run
    config: Config
    decoder: Decoder
    progress: Progress = bar
    world: World = ALONE
    unfinished: bool = False
    _models: dict[str, VideoCLIP] = field(default_factory=dict)
    _lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep other processes out of the run's folder until the job ends."""
        if self.world.first:
            self._lock = self._lock or lock(self.run.folder)
            self.run.remove_leftovers()

    def unlock(self) -> None:
        """Let other processes work in the run's folder."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def model(self, folder: Path | None = None) -> VideoCLIP:
        """Return the frozen backbone, or the model saved in `folder`; one of them is in memory at a time."""
        return self.model_of(saved_spec(self.config.backbone, folder) if folder else "")

    def model_of(self, spec: str) -> VideoCLIP:
        """Return any model, such as a saved one, or with "" the frozen backbone; one of them is in memory at a time."""
        if spec not in self._models:
            self._models.clear()
            self._models[spec] = fresh_model(self.config, spec)
        return self._models[spec]

    def release(self) -> None:
        """Free the memory of the model; `model` loads it again."""
        self._models.clear()

    @cached_property
    def fingerprint(self) -> str:
        """The digest of the frozen backbone's weights."""
        return self.model().backbone.fingerprint()

    def names(self) -> list[str]:
        """Read the action names of the run."""
        return read_names(self.run.actions)

    def save_settings(self) -> None:
        """Write the settings to the run's `config.yaml`, unless it says the same in the user's own form."""
        same = self.run.config.is_file() and load_config(self.run.config) == self.config
        trust.remember(trust.named(self.config.model_dump(mode="json")))
        if self.world.first and not same:
            write_text(self.run.config, [dump_config(self.config)])


@contextmanager
def open_job(
    folder: Path, config: Config, progress: Progress = bar, *, together: bool = False
) -> Iterator[Job]:
    """Open a job on a run's folder, with decoders that end with the block.

    With `together`, all processes that `torchrun` started work on it. Raises MaxiError when there are several processes
    without it, or when another process works in the folder.
    """
    if n_processes() > 1 and not together:
        raise MaxiError(
            "only `maxi train` works in several processes; run the other stages without torchrun"
        )
    with Decoder(n_workers(config), config.deadline) as decoder:
        processes = world() if together else World()
        job = Job(Run(folder), config, decoder, progress if processes.first else silent, processes)
        try:
            if job.run.is_run():
                job.lock()
            yield job
            processes.leave()
        finally:
            job.unlock()


def load_to_resume(
    out: Path | None, config_file: Path | None, settings: Sequence[str], **options: Any
) -> Config:
    """Return the settings that a command states, on top of those of the run in `out`, which need not be repeated.

    They are not taken from the run where the user names a file of settings, or another backbone.
    """
    file = Run(out).config if out and config_file is None else None
    if file and file.is_file() and options["backbone"] in (None, load_config(file).backbone):
        return load_run(file, settings, **options)
    return load_config(config_file, settings, **options)


def n_workers(config: Config) -> int:
    """Return the number of processes that decode, and of threads that read or write the cache."""
    return config.workers or min(8, n_cores())


def fresh_model(config: Config, saved: str | None = None) -> VideoCLIP:
    """Load the backbone of these settings, or a saved model with the temperature that it was trained with."""
    return load_model(
        saved or config.backbone,
        resolve_device(config.device),
        sigma=None if saved else config.train.sigma,
        normalisation=config.normalisation,
        resize_to=config.resize_to,
    )


def resolve_device(name: str) -> str:
    """Return the device of that name; `auto` is the GPU where there is one."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_skipped(
    n_files: int, skipped: Sequence[Skipped], max_skipped: float, table: Path | None = None
) -> None:
    """Raise MaxiError when no file is readable, or when more than 5 files and the share `max_skipped` are not.

    `table` is the file that lists them, where there is one.
    """
    unreadable = [s for s in skipped if s.kind == "unreadable"]
    if not unreadable:
        return
    listed = f", as {table} lists them" if table else ""
    first = f"first: {unreadable[0].path}: {unreadable[0].reason}"
    if len(unreadable) == n_files:
        raise MaxiError(
            f"none of the {n_files} videos can be read ({first}); replace them by videos that play{listed}"
        )
    if len(unreadable) > FEW_SKIPPED and len(unreadable) > max_skipped * n_files:
        raise MaxiError(
            f"{len(unreadable)} of {n_files} videos cannot be read ({first}); replace or remove them{listed}, "
            "or allow more with --max-skipped"
        )


def without(job: Job, videos: Sequence[Video], failed: Sequence[Skipped]) -> list[Video]:
    """Return the videos without those that failed to decode, which they did not when they were indexed.

    Raises MaxiError when they are too many.
    """
    if failed:
        logger.warning(
            "%d videos can no longer be read, first %s: %s",
            len(failed),
            failed[0].path,
            failed[0].reason,
        )
        job.unfinished = job.unfinished or any(s.again for s in failed)
        check_skipped(len(videos), failed, job.config.index.max_skipped)
    lost = {s.path for s in failed}
    return [v for v in videos if v.path not in lost]
