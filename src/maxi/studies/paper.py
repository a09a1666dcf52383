"""The paper in miniature: all studies on the rendered world, and one page of what agrees with the paper."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from maxi.files import read_json, write_text
from maxi.processes import n_cores
from maxi.progress import Progress, bar
from maxi.studies.collection import Sizes
from maxi.studies.outcome import by_world, sentences, table, verdicts
from maxi.studies.run import FIGURE, RESULTS, chosen, folders_of, run_studies
from maxi.studies.study import Study
from maxi.studies.table import STUDIES

SIZES = Sizes(pool=144, unseen=320, known=120)
"""Smaller than for a single study, so that all of them take two hours for three seeds on two cores."""


PAPER = tuple(name for name in STUDIES if name != "cures")
"""The studies of the page; `cures`, which compares settings of our own in all worlds, would take a third more."""


def write_paper(
    page: Path,
    runs: Path,
    names: Sequence[str] = PAPER,
    *,
    seeds: int = 3,
    jobs: int | None = None,
    overrides: Sequence[str] = (),
    sizes: Sizes = SIZES,
    progress: Progress = bar,
) -> None:
    """Run studies in the folder `runs`, and write the page and, in a folder of its name, the figures.

    An interrupted call goes on where it was.
    """
    run_studies(
        names, runs, seeds=seeds, jobs=jobs, overrides=overrides, sizes=sizes, progress=progress
    )
    figures = page.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    folders = folders_of(runs, names)
    records = {name: read_json(folder / RESULTS) for name, folder in folders.items()}
    for name, folder in folders.items():
        shutil.copy2(folder / FIGURE, figures / f"{name}.svg")
    write_text(page, (f"{line}\n" for line in _page(records, figures.name, sizes)))


def _page(records: dict[str, list[dict[str, Any]]], figures: str, sizes: Sizes) -> Iterator[str]:
    """Yield the lines of the page."""
    studies = {name: chosen([name])[name] for name in records}
    seeds = sorted({r["seed"] for of_study in records.values() for r in of_study})
    yield "# The paper in miniature"
    yield ""
    yield (
        "Each table of the paper, and questions beyond it, on the rendered world of `maxi demo`. It is no small "
        "Kinetics: directions can be compared with the paper's, figures cannot. Every sentence follows from its 95 % "
        "interval."
    )
    yield ""
    every = records.keys() == set(PAPER)
    asked = "" if every else f" --studies {','.join(records)}"
    yield (
        f"Made by `maxi paper --seeds {len(seeds)}{asked}` on {date.today().isoformat()}: seeds "
        f"{', '.join(map(str, seeds))}; {sizes.pool} unlabelled videos, {sizes.unseen} unseen and {sizes.known} known "
        f"ones of each seed; {_machine()}."
    )
    yield ""
    yield "| study | paper | claim | direction |"
    yield "|---|---|---|---|"
    for name, study in studies.items():
        yield from _verdicts(study, records[name])
    for name, study in studies.items():
        yield ""
        yield from table(study, records[name]).rstrip().splitlines()
        yield ""
        yield f"![Gain of each row over the frozen model]({figures}/{name}.svg)"


def _verdicts(study: Study, records: Sequence[dict[str, Any]]) -> Iterator[str]:
    for world, of_world in by_world(records):
        told = zip(sentences(study, of_world), verdicts(study, of_world), strict=True)
        for sentence, verdict in told:
            where = f" ({world})" if len(study.worlds) > 1 else ""
            claim = sentence.partition(": ")[0]
            yield f"| {study.title}{where} | {study.source} | {claim} | {verdict} |"


def _machine() -> str:
    """Say on what the figures were made."""
    return (
        f"{n_cores()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
