"""Train the rows of a study on collections, each in a run of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from maxi.baselines import runs
from maxi.baselines.baseline import Baseline
from maxi.baselines.training import DONE
from maxi.config import Config
from maxi.documents import Record, read_document
from maxi.errors import MaxiError
from maxi.files import digest, write_text
from maxi.models.load import saved_spec
from maxi.processes import call_apart, n_cores
from maxi.progress import Progress, silent, under
from maxi.records import Match, read_jsonl
from maxi.run import Run, meta_path, write_signed
from maxi.settings import changed
from maxi.stages.bag import bag_run
from maxi.stages.branch import branch
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.rounds import earlier_rounds
from maxi.stages.train import train_run
from maxi.studies.collection import Collection
from maxi.studies.study import STATED, Row, Study
from maxi.video.sources import read_names


class TrainedRow(NamedTuple):
    """A row that needs no more training: its settings, its run, how right its matches are, and of a baseline the model.

    The frozen model has no run.
    """

    config: Config
    run: Run | None
    matching: Mapping[str, float]
    baseline: Baseline | None = None


def train_rows(
    study: Study, collections: Sequence[Collection], config: Config, jobs: int, progress: Progress
) -> None:
    """Train what is not trained yet, `jobs` rows at a time, each in a process of its own; with one, nothing is done.

    `train_row` trains what is left. Equal rows, also of other studies on the same collection, are trained once, and
    rows that others start from come first.
    """
    if jobs == 1:
        return
    for later in (False, True):
        calls = {
            _folder(row, study, collection, config): (row, name, study, collection, config)
            for collection in collections
            for name, row in study.rows.items()
            if not row.answers and bool(row.start) == later
        }
        threads = max(1, n_cores() // jobs)
        waiting = [
            (threads, *call) for folder, call in calls.items() if not _trained(folder, call[0])
        ]
        ended = call_apart(_train_apart, waiting, jobs)
        for _ in progress(ended, len(waiting), "train rows") if waiting else ():
            pass


def _train_apart(
    n_threads: int, row: Row, name: str, study: Study, collection: Collection, config: Config
) -> None:
    torch.set_num_threads(n_threads)
    logging.getLogger("maxi").setLevel(logging.ERROR)  # the collection was warned of before
    train_row(row, name, study, collection, config, silent)


def _trained(folder: Path, row: Row) -> bool:
    """Return whether a row looks trained; `train_row` looks closer."""
    run = Run(folder).control if row.control else Run(folder)
    return run.training.is_file() or (run.checkpoints / row.baseline / DONE).is_file()


def _folder(row: Row, study: Study, collection: Collection, config: Config) -> Path:
    """Return the folder of a row's run, which is named by all that training depends on."""
    own = changed(config, row.settings).model_dump(mode="json")
    replaced = [part.__name__ if part else "" for part in (row.matches, row.names)]
    start = _folder(study.rows[row.start], study, collection, config).name if row.start else ""
    key = digest(own, replaced, row.control, row.baseline, row.shots, start)
    return collection.run.folder.parent / "rows" / key


def train_row(
    row: Row,
    name: str,
    study: Study,
    collection: Collection,
    config: Config,
    progress: Progress,
) -> TrainedRow:
    """Train a row in a run of its own beside the collection's, unless it is trained, and return its model.

    Raises MaxiError when a row needs true names that nobody knows.
    """
    own = changed(config, _settings(row, collection))
    if (row.matches or row.baseline or row.shots) and not collection.truth:
        raise MaxiError(
            f"the row {name!r} needs the true names of the videos; give them in a csv with path and label"
        )
    folder = _folder(row, study, collection, config)
    if row.shots:
        if row.start:
            start = Run(_folder(study.rows[row.start], study, collection, config))
            own = changed(own, {"backbone": saved_spec(own.backbone, start.model)})
        return _train_shots(row, name, folder, collection, own, progress)
    main = collection.run
    run = branch(main, folder, config, own)
    with open_job(run.folder, own, under(name, progress)) as job:
        job.save_settings()
        if row.baseline:
            asked = [name for split in collection.splits for name in split.names]
            return TrainedRow(
                own, run, {}, runs.trained(job, row.baseline, asked, collection.truth)
            )
        if row.names:
            start_run(job, row.names(job.names(), own.seed))
        if row.matches:
            matches = read_jsonl(main.matches, Match)
            replaced = row.matches(matches, collection.truth, job.names(), own.seed)
            inputs = read_document(meta_path(main.matches), Record)["inputs"]
            write_signed(run.matches, replaced, inputs)
        else:
            earlier_rounds(job)
            match_run(job)
        for stage in (expand_run, caption_run, bag_run):
            stage(job)
        train_run(job, control=row.control)
    return TrainedRow(own, run, _matching(run, collection))


def _settings(row: Row, collection: Collection) -> dict[str, Any]:
    """Return the settings of a row; where shares of names are to be stated, the true ones are, in a file."""
    if row.settings.get("match.shares") != STATED:
        return dict(row.settings)
    path = collection.run.folder.parent / "shares.txt"
    counts = Counter(collection.truth.values())
    names = read_names(collection.run.actions)
    write_text(path, (f"{name}\t{counts[name]}\n" for name in names))
    return {**row.settings, "match.shares": str(path)}


def _train_shots(
    row: Row, name: str, folder: Path, collection: Collection, own: Config, progress: Progress
) -> TrainedRow:
    """Train on a few labelled videos of each name."""
    config = changed(own, {"match.supervised": True, "match.shots": row.shots})
    with open_job(folder, config, under(name, progress)) as job:
        start_run(job, collection.shots.names)
        index_run(job, collection.shots.where)
        for stage in (match_run, expand_run, caption_run, bag_run, train_run):
            stage(job)
        return TrainedRow(config, job.run, {})


def _matching(run: Run, collection: Collection) -> dict[str, float]:
    """Return how many percent of the matches are right, of all and of those that are kept, where that is known."""
    if not collection.truth:
        return {}
    matches = read_jsonl(run.matches, Match)
    right = [m.name == collection.truth.get(m.video) for m in matches]
    kept = [one for one, m in zip(right, matches, strict=True) if m.kept]
    return {"matched": _percent(right), "kept": _percent(kept)}


def _percent(right: Sequence[bool]) -> float:
    return round(100 * float(np.mean(right)), 2) if right else 0.0
