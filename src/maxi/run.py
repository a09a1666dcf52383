"""A run's folder: where each file lies, and whether a file was made from the inputs as they are now."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from maxi.documents import Record, read_document
from maxi.errors import MaxiError
from maxi.files import WithoutLocksError, digest, file_digest, refuse_full, try_lock, write_json
from maxi.records import write_jsonl
from maxi.settings import read_settings

logger = logging.getLogger(__name__)

NEW, META, ANNOUNCED = ".new", ".meta.json", ".meta.json.new"
"""What follows a file's name: the file before it is in place, its record, and the record before it is in place."""


UNFINISHED = "unfinished"
"""The input that is written into a record when videos are missing that another try may read."""


def lock(folder: Path) -> IO[str]:
    """Keep other processes out of a run's folder until the returned file is closed.

    Where the file system has no locks, there is a warning instead. Raises MaxiError when another process works in the
    folder.
    """
    path = folder / ".lock"
    try:
        return try_lock(path)
    except WithoutLocksError:
        logger.warning(
            "%s is on a file system without locks; see to it that no other maxi works there", folder
        )
        return path.open("a", encoding="utf-8")
    except BlockingIOError as error:
        raise MaxiError(
            f"{folder} is in use by another maxi; wait for it, or choose another -o"
        ) from error


class Run:
    """The paths of all files of a run. Beside a finished file lies its record, `<name>.meta.json`."""

    def __init__(self, folder: str | Path) -> None:
        if not str(folder).strip():
            raise MaxiError("the name of the run's folder is empty; give it a name")
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.actions = self.folder / "actions.txt"
        self.manifest = self.folder / "manifest.jsonl"
        self.skipped = self.folder / "skipped.jsonl"
        self.features = self.folder / "features"
        self.frames = self.folder / "frames"
        self.matches = self.folder / "matches.jsonl"
        self.phrases = self.folder / "phrases.jsonl"
        self.captions = self.folder / "captions.jsonl"
        self.bags = self.folder / "bags.jsonl"
        self.model = self.folder / "model"
        self.training = self.folder / "training.json"
        self.predictions = self.folder / "predictions.jsonl"
        self.results = self.folder / "results.json"
        self.datasets = self.folder / "datasets" / "results.json"
        self.ensemble = self.folder / "ensemble.json"
        self.report = self.folder / "report.html"
        self.verify = self.folder / "verify.html"
        self.asked = self.folder / "asked.jsonl"
        self.judgements = self.folder / "judgements.jsonl"
        self.refinement = self.folder / "refinement.safetensors"
        self.previews = self.folder / "previews"
        self.exports = self.folder / "exports"
        # Files that training leaves beside the model.
        self.checkpoints = self.folder / "checkpoints"
        self.steps = self.folder / "train.jsonl"
        self.tensorboard = self.folder / "tensorboard"
        self.wandb = self.folder / "wandb.id"

    @property
    def eval(self) -> Run:
        """The folder of the labelled videos for evaluation, with their own manifest, skipped files and predictions."""
        return Run(self.folder / "eval")

    @property
    def control(self) -> Run:
        """The folder of the control, the same training on shuffled bags, with its own model."""
        return Run(self.folder / "control")

    @property
    def retrained(self) -> Run:
        """The folder of the run that was trained again on the matches that answers corrected."""
        return Run(self.folder / "retrained")

    def round(self, number: int) -> Run:
        """Return the folder of an earlier round, a run whose model matches the videos of the next one."""
        return Run(self.folder / f"round-{number}")

    def journal(self, table: Path) -> Path:
        """Return the path of the journal, which holds the rows of a table while its stage runs."""
        return table.with_suffix(".journal")

    def existing(self) -> Run:
        """Return this run. Raises MaxiError when there is no run in the folder."""
        if not self.is_run():
            raise MaxiError(
                f"{self.folder} holds no run (no config.yaml that names a backbone); "
                "start one with `maxi adapt` or `maxi index`"
            )
        return self

    def is_run(self) -> bool:
        """Return whether the folder holds a run: its settings, with a backbone."""
        return self.config.is_file() and "backbone" in read_settings(self.config)

    def check_own(self) -> None:
        """Raise MaxiError when the folder holds files, but no run: they must not be overwritten."""
        if not self.is_run():
            refuse_full(self.folder)

    def remove_leftovers(self) -> None:
        """Remove the files that a killed command did not put into place; only the process with the lock may do that."""
        for run in (self, self.eval, self.control):
            ours = [path for path in vars(run).values() if path.parent == run.folder]
            for path in (*ours, *map(run.journal, ours), run.model / "README.md"):
                for left in (_beside(path, NEW), *path.parent.glob(f"{path.name}*.tmp")):
                    if left.is_file():
                        left.unlink()
                journal, record = run.journal(path), meta_path(path)
                # When the table was written after its journal, a kill came before the journal was removed.
                if journal.is_file() and record.is_file() and _written(record) >= _written(journal):
                    journal.unlink()

    def create(self) -> None:
        """Make the folder. Raises MaxiError when it cannot be made or written to."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaxiError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another -o"
            ) from error
        if not os.access(self.folder, os.W_OK):
            raise MaxiError(f"{self.folder}: cannot be written to; choose another -o")


def meta_path(path: Path) -> Path:
    """Return the path of a file's record."""
    return _beside(path, META)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _written(path: Path) -> int:
    """Return when a file was written, in nanoseconds."""
    return path.stat().st_mtime_ns


def is_current(path: Path, inputs: Mapping[str, str]) -> bool:
    """Return whether `path` exists and was made from these inputs; a file that was edited by hand is kept.

    Raises MaxiError when it was edited and its inputs have changed since, so that neither change is lost silently, and
    when it has no record, so that it is not the run's own and must not be overwritten.
    """
    if not path.exists():
        return False
    if (record := _record(path)) is None:
        raise MaxiError(
            f"{path} was not made by this run (no {meta_path(path).name} is beside it), so it is not overwritten; "
            "move it away to have it made"
        )
    edited = file_digest(path) != record["output"]
    is_whole = record["inputs"].pop(UNFINISHED, None) is None
    if record["inputs"] == inputs:
        if edited:
            logger.warning("%s was edited by hand; it is used as it is", path)
        return is_whole or edited
    if edited:
        changed = [name for name in inputs if record["inputs"].get(name) != inputs[name]]
        raise MaxiError(
            f"{path} was edited by hand, but {', '.join(changed)} changed since it was made; "
            "move it away to have it made anew, or take the change back"
        )
    return False


def made_from(path: Path, inputs: Mapping[str, str]) -> bool:
    """Return whether a file and its record exist, and these are among the inputs that it was made from."""
    record = _record(path) if path.exists() else None
    return record is not None and inputs.items() <= record["inputs"].items()


def require(path: Path, verb: str, inputs: Mapping[str, str]) -> None:
    """Raise MaxiError, which says what to run, when a file is missing or was made from other inputs than these."""
    if not path.exists():
        raise MaxiError(f"{path} does not exist; run `maxi {verb}` first")
    if record := _record(path):
        for name, value in inputs.items():
            if record["inputs"].get(name) != value:
                raise MaxiError(f"{path} was made before {name} changed; rerun `maxi {verb}`")


@contextmanager
def signed(path: Path, inputs: Mapping[str, str]) -> Iterator[Path]:
    """Yield the path to write to; then put the file and its record into place.

    The record is written before either is in place. So a kill in between leaves no file without a record, which would
    look like a file of the user's.
    """
    new = _beside(path, NEW)
    yield new
    record = {"maxi": metadata.version("maxi"), "inputs": inputs, "output": file_digest(new)}
    write_json(_beside(path, ANNOUNCED), record)
    new.replace(path)
    _beside(path, ANNOUNCED).replace(meta_path(path))


def write_signed(path: Path, rows: Iterable[Any], inputs: Mapping[str, str]) -> None:
    """Write a table and its record."""
    with signed(path, inputs) as new:
        write_jsonl(new, rows)


def _record(path: Path) -> Any:
    """Return the record of a file, None when there is none; one that a kill kept from its place is put there."""
    announced, record = _beside(path, ANNOUNCED), meta_path(path)
    if announced.exists():
        if read_document(announced, Record)["output"] == file_digest(path):
            announced.replace(record)
        else:
            announced.unlink()
    try:
        return read_document(record, Record) if record.exists() else None
    except MaxiError as error:
        raise MaxiError(
            f"{record}: not the record of {path.name} any more; remove both to have {path.name} made again"
        ) from error


def contents(path: Path) -> str:
    """Return the digest of a file that is an input of a stage; empty when the file does not exist.

    Of a folder it is that of the names, sizes and times of change of all files in it.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        states = [(file, file.stat()) for file in files]
        return digest([(str(f.relative_to(path)), s.st_size, s.st_mtime_ns) for f, s in states])
    return file_digest(path) if path.is_file() else ""
