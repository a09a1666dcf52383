"""Run studies: every seed, every row, and what comes out as tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maxi.config import Config
from maxi.errors import MaxiError, choose
from maxi.files import note_options, write_json, write_text
from maxi.progress import Progress, bar
from maxi.reports import figures
from maxi.reports.html import render_page
from maxi.settings import load_config
from maxi.studies.collection import SIZES, Collection, Sizes, given, rendered
from maxi.studies.engine import records_of
from maxi.studies.outcome import sentences, summary, table
from maxi.studies.study import Study
from maxi.studies.table import STUDIES

SMALL_BATCH = "train.batch_size=72"
"""With few videos: three steps an epoch."""


class Own(NamedTuple):
    """Videos, names and labelled videos of a user, in place of the rendered world."""

    videos: str
    actions: Path
    labelled: str


def chosen(names: Sequence[str]) -> dict[str, Study]:
    """Return the studies of these names; `all` stands for all of them. Raises MaxiError for an unknown one."""
    if "all" in names:
        return STUDIES
    return {name: choose(STUDIES, name, "study") for name in names}


def run_studies(
    names: Sequence[str],
    out: Path,
    *,
    seeds: int = 1,
    offset: int = 0,
    own: Own | None = None,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    backbone: str | None = None,
    sizes: Sizes = SIZES,
    progress: Progress = bar,
) -> None:
    """Run studies, and write `NAME.json`, `NAME.md`, `NAME.html` and `NAME.svg` of each into `out`.

    Seeds are `offset`, `offset + 1`, ... Without videos of one's `own` they are those of the rendered world. What is
    there already is not made again, so that an interrupted study goes on. Raises MaxiError when `out` was made with
    other options.
    """
    studies = chosen(names)
    options: dict[str, Any] = {
        "offset": offset,
        "overrides": list(overrides),
        "config": str(config_file or ""),
        "backbone": backbone or "",
        "videos": [str(part) for part in own] if own else list(sizes),
    }
    note_options(out / "studies.json", options)
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in studies}
    for seed in range(offset, offset + seeds):
        config = _config(own, config_file, overrides, backbone, seed)
        folder = out / f"seed-{seed}"
        collection = _collection(own, folder, seed, config, sizes, progress)
        for name, study in studies.items():
            records[name] += records_of(study, collection, config, progress)
            write_study(out, name, study, records[name])


def _config(
    own: Own | None,
    config_file: Path | None,
    overrides: Sequence[str],
    backbone: str | None,
    seed: int,
) -> Config:
    """Return the settings that all rows share."""
    if own is None:
        if backbone not in (None, "miniature"):
            raise MaxiError(
                f"the rendered world is for the backbone miniature, not for {backbone}; give --videos, --actions "
                "and --eval of your own"
            )
        return load_config(config_file, (SMALL_BATCH, *overrides), backbone="miniature", seed=seed)
    return load_config(config_file, overrides, backbone=backbone, seed=seed)


def _collection(
    own: Own | None, folder: Path, seed: int, config: Config, sizes: Sizes, progress: Progress
) -> Collection:
    if own is None:
        return rendered(folder, seed, config, sizes, progress)
    return given(folder, own.videos, own.actions, own.labelled, config, progress)


def write_study(out: Path, name: str, study: Study, records: Sequence[dict[str, Any]]) -> None:
    """Write the records of a study, and its table, page and figure."""
    write_json(out / f"{name}.json", list(records))
    write_text(out / f"{name}.md", [table(study, records)])
    rows = summary(study, records)
    split = records[0]["split"]
    gained = {
        row["row"]: (row["splits"][split]["gain"], row["splits"][split]["interval"])
        for row in rows[1:]
    }
    figure = figures.gains(gained, x=f"points of top-1 over frozen, {split}")
    write_text(out / f"{name}.svg", [figures.standalone(figure)])
    page = render_page(
        "study.html.j2",
        study=study,
        rows=rows,
        splits=list(rows[0]["splits"]),
        figure_svg=figure,
        sentences=sentences(study, records),
        seeds=sorted({record["seed"] for record in records}),
        conditions=records[0]["conditions"],
    )
    write_text(out / f"{name}.html", [page])


def lines_of(out: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield the tables of studies, and where their pages are."""
    for name in chosen(names):
        yield from (out / f"{name}.md").read_text(encoding="utf-8").splitlines()
        yield f"the page is {out / f'{name}.html'}"
