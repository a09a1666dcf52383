"""Run studies: every seed, every row, and what comes out as tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maxi.config import Config
from maxi.errors import MaxiError, choose
from maxi.files import note_options, write_json, write_text
from maxi.processes import n_cores
from maxi.progress import Progress, bar
from maxi.reports import figures
from maxi.reports.html import render_page
from maxi.settings import load_config
from maxi.studies.collection import SIZES, Collection, Sizes, given, rendered
from maxi.studies.measuring import records_of
from maxi.studies.outcome import by_world, conditions, sentences, splits_of, summary, table, warned
from maxi.studies.study import Study
from maxi.studies.table import STUDIES
from maxi.studies.training import train_rows

SMALL_BATCH = "train.batch_size=72"
"""With few videos: three steps an epoch."""

RESULTS, TABLE, PAGE, FIGURE = "results.json", "table.md", "table.html", "figure.svg"

MOST_JOBS = 8  # rows trained at the same time; each takes up to 2 GB


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
    jobs: int | None = None,
    progress: Progress = bar,
) -> None:
    """Run studies, and write `results.json`, `table.md`, `table.html` and `figure.svg` of each.

    They lie in `out`, or with several studies in a folder of each study's name (see `folders_of`). Seeds are `offset`,
    `offset + 1`, ... Without videos of one's `own` they are those of the rendered world. `jobs` rows are trained or
    measured at the same time, by default as many as there are cores in the rendered world, else one. What is there
    already is not made again, so that an interrupted study goes on. Raises MaxiError when `out` was made with other
    options.
    """
    studies = chosen(names)
    jobs = jobs or (1 if own else min(MOST_JOBS, n_cores()))
    options: dict[str, Any] = {
        "offset": offset,
        "overrides": list(overrides),
        "config": str(config_file or ""),
        "backbone": backbone or "",
        "videos": [str(part) for part in own] if own else list(sizes),
        "studies": "" if len(studies) > 1 else next(iter(studies)),
    }
    note_options(out / "studies.json", options)
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in studies}
    for seed in range(offset, offset + seeds):
        config = _config(own, config_file, overrides, backbone, seed)
        folder = out / f"seed-{seed}"
        for name, study in studies.items():
            collections = _collections(own, study, folder, seed, config, sizes, progress)
            train_rows(study, collections, config, jobs, progress)
            records[name] += records_of(study, collections, config, jobs, progress)
            write_study(folders_of(out, names)[name], study, records[name])


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


def _collections(
    own: Own | None,
    study: Study,
    folder: Path,
    seed: int,
    config: Config,
    sizes: Sizes,
    progress: Progress,
) -> list[Collection]:
    if own:
        return [given(folder, own.videos, own.actions, own.labelled, config, progress)]
    return [
        rendered(
            folder,
            seed,
            world,
            config,
            sizes,
            progress,
            styles=study.styles,
            shots=max(row.shots for row in study.rows.values()),
        )
        for world in study.worlds
    ]


def folders_of(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return where the results of each study lie: in `out` when it is the only one, else in a folder of its name."""
    studies = chosen(names)
    return {name: out / name if len(studies) > 1 else out for name in studies}


def write_study(folder: Path, study: Study, records: Sequence[dict[str, Any]]) -> None:
    """Write the records of a study, and its tables, page and figure."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, list(records))
    write_text(folder / TABLE, [table(study, records)])
    worlds: list[dict[str, Any]] = [
        {
            "name": world if len(study.worlds) > 1 else "",
            "rows": summary(study, of_world),
            "splits": splits_of(of_world),
            "sentences": sentences(study, of_world),
            "conditions": conditions(of_world),
        }
        for world, of_world in by_world(records)
    ]
    split = records[0]["split"]
    # Rows of several worlds would be too many for one figure; those that a claim calls better are shown.
    shown = {c.better for c in study.claims} if len(study.worlds) > 1 else {*study.rows}
    gained = {
        " · ".join(filter(None, (world["name"], row["row"]))): (
            row["splits"][split]["gain"],
            row["splits"][split]["interval"],
        )
        for world in worlds
        for row in world["rows"][1:]
        if row["row"] in shown
    }
    figure = figures.gains(gained, x=f"points over frozen, {split}")
    write_text(folder / FIGURE, [figures.standalone(figure)])
    page = render_page(
        "study.html.j2",
        study=study,
        worlds=worlds,
        warned=warned(records) if len(study.worlds) > 1 else "",
        figure_svg=figure,
        conditions=records[0]["conditions"],
    )
    write_text(folder / PAGE, [page])


def lines_of(out: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield the tables of studies, and where their pages are."""
    for folder in folders_of(out, names).values():
        yield from (folder / TABLE).read_text(encoding="utf-8").splitlines()
        yield f"the page is {folder / PAGE}"
