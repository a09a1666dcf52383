"""A run's folder: where each file lies, and whether a file was made from the inputs as they are now."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from maxi.errors import MaxiError
from maxi.files import digest, file_digest, read_json, write_json
from maxi.records import write_jsonl

logger = logging.getLogger(__name__)


def lock(folder: Path) -> IO[str]:
    """Keep other processes out of a run's folder until the returned file is closed.

    Raises MaxiError when another process works in the folder.
    """
    file = (folder / ".lock").open("w", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no flock
        pass
    except BlockingIOError as error:
        file.close()
        raise MaxiError(
            f"{folder} is in use by another maxi; wait for it, or choose another -o"
        ) from error
    return file


class Run:
    """The paths of all files of a run. Beside a finished file lies its record, `<name>.meta.json`."""

    def __init__(self, folder: str | Path) -> None:
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
        self.ensemble = self.folder / "ensemble.json"
        self.report = self.folder / "report.html"
        self.verify = self.folder / "verify.html"
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

    def journal(self, table: Path) -> Path:
        """Return the path of the journal, which holds the rows of a table while its stage runs."""
        return table.with_suffix(".journal")

    def existing(self) -> Run:
        """Return this run. Raises MaxiError when there is no run in the folder."""
        if not self.config.is_file():
            raise MaxiError(
                f"{self.folder} holds no run (no config.yaml); start one with `maxi adapt` or `maxi index`"
            )
        return self

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
    return path.with_name(path.name + ".meta.json")


def is_current(path: Path, inputs: dict[str, Any]) -> bool:
    """Return whether `path` exists and was made from these inputs; a file that was edited by hand is kept.

    Raises MaxiError when it was edited and its inputs have changed since, so that neither change is lost silently.
    """
    if not path.exists():
        return False
    record = meta_path(path)
    if not record.exists():
        # Made by hand, or by a stage that was killed before it wrote the record: keep it, but do not trust it.
        aside = path.with_name(path.name + ".old")
        path.replace(aside)
        logger.warning("%s has no record of how it was made; it is now %s", path, aside)
        return False
    meta = read_json(record)
    current = _plain(inputs)
    edited = path.is_file() and file_digest(path) != meta.get("output")
    if meta.get("inputs") == current:
        if edited:
            logger.warning("%s was edited by hand; it is used as it is", path)
        return True
    if edited:
        old = meta.get("inputs", {})
        changed = [name for name in current if old.get(name) != current[name]]
        raise MaxiError(
            f"{path} was edited by hand, but {', '.join(changed)} changed since it was made; "
            "move it away to have it made anew, or take the change back"
        )
    return False


def require(path: Path, verb: str, inputs: dict[str, Any]) -> None:
    """Raise MaxiError, which says what to run, when a file is missing or was made from other inputs than these."""
    if not path.exists():
        raise MaxiError(f"{path} does not exist; run `maxi {verb}` first")
    if not meta_path(path).exists():
        return
    made_from = read_json(meta_path(path)).get("inputs", {})
    for name, value in _plain(inputs).items():
        if made_from.get(name) != value:
            raise MaxiError(f"{path} was made before {name} changed; rerun `maxi {verb}`")


def sign(path: Path, inputs: dict[str, Any]) -> None:
    """Write the record of `path`: the inputs that it was made from, and its digest."""
    meta = {"maxi": metadata.version("maxi"), "inputs": _plain(inputs)}
    if path.is_file():
        meta["output"] = file_digest(path)
    write_json(meta_path(path), meta)


def write_signed(path: Path, rows: Iterable[Any], inputs: dict[str, Any]) -> None:
    """Write a table and its record. The old record is removed first, so that it never stands beside the new table."""
    meta_path(path).unlink(missing_ok=True)
    write_jsonl(path, rows)
    sign(path, inputs)


def contents(path: Path) -> str:
    """Return the digest of a file that is an input of a stage; empty when the file does not exist."""
    return file_digest(path) if path.is_file() else ""


def sources_of_bags(run: Run) -> dict[str, Any]:
    """Return the inputs of `bags.jsonl`: the digest of each table that bags are made from."""
    return {path.name: contents(path) for path in (run.matches, run.phrases, run.captions)}


def _plain(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs with a digest in place of each value that is not a text."""
    return {
        name: value if isinstance(value, str) else digest(value) for name, value in inputs.items()
    }
