"""`report.html`: the page that says what a run did, whether it helped, and how it changed single videos."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxi.documents import DatasetRow, Predicted, Results, Stepped, read_document, read_rows
from maxi.errors import MaxiError
from maxi.files import write_text
from maxi.method.bags import bag_statistics
from maxi.method.matching import entropy, warnings
from maxi.randomness import shuffled
from maxi.records import Bag, Caption, Match, Row, Skipped, Video, iterate_jsonl
from maxi.reports import figures
from maxi.reports import tables as findings
from maxi.reports.datasets import dataset_tables
from maxi.reports.html import previews, render_page
from maxi.reports.refinement import section_of
from maxi.reports.tables import Rows
from maxi.run import Run
from maxi.settings import read_settings
from maxi.video.workers import Decoder

N_EXAMPLES, N_SKIPPED = 12, 50
N_FRAMES, HEIGHT = 4, 120


def write_report(run: Run, decoder: Decoder, *, seed: int = 0) -> Path:
    """Write `report.html` from the files that the run has, and return its path; parts without a file are left out.

    `seed` chooses the example videos. Raises MaxiError when the folder holds no run, or when a file in it is malformed.
    """
    if not run.config.is_file() and not run.manifest.is_file():
        raise MaxiError(f"{run.folder} holds no run; give the folder that `maxi adapt` wrote")
    names = _names(run.actions)
    matches = _rows(run.matches, Match)
    bags = _rows(run.bags, Bag)
    predictions = read_rows(run.predictions, Predicted)
    answers = read_rows(run.eval.predictions, Predicted)
    train = read_rows(run.steps, Stepped)
    results = read_document(run.results, Results) if run.results.is_file() else []
    measured = read_document(run.datasets, list[DatasetRow]) if run.datasets.is_file() else []
    names = names or sorted({m.name for m in matches})

    examples = _examples(matches, seed)
    changed = {
        "collection": findings.changed(predictions, seed),
        "eval": findings.changed(answers, seed),
    }
    by_id, n_videos = _chosen(run, {m.video for m in examples}, changed)
    strips = previews(decoder, list(by_id.values()), N_FRAMES, height=HEIGHT)
    skipped = _rows(run.skipped, Skipped)
    summary = {
        "videos": n_videos,
        "skipped": len(skipped),
        "names": len(names),
        "kept": sum(m.kept for m in matches),
        "steps": len(train),
        "backbone": _backbone(run.config),
    }
    page = render_page(
        "report.html.j2",
        title=run.folder.resolve().name,
        summary=summary,
        models=findings.MODELS,
        signed=findings.signed,
        outcome=findings.outcome(results),
        unlabelled=None if results else findings.unlabelled(predictions, names),
        match_entropy=entropy(matches, names) if matches else None,
        verify=f"maxi verify {shlex.quote(str(run.folder))} -n 40",
        warnings=warnings(matches, names) if matches else [],
        examples=_shown(examples, by_id, strips, bags, run.captions),
        training=_training(train, read_rows(run.control.steps, Stepped)),
        matching=_matching(matches),
        changes=_changes(predictions, answers, changed, by_id, strips),
        evaluation=_evaluation(results, answers),
        refinement=section_of(run),
        datasets=dataset_tables(measured),
        bags=_bags(bags),
        skipped=skipped[:N_SKIPPED],
        settings=_text(run.config),
    )
    write_text(run.report, [page])
    return run.report


def _iterate(path: Path, cls: type[Row]) -> Iterator[Row]:
    """Yield the rows of a table; none when it does not exist."""
    return iterate_jsonl(path, cls) if path.is_file() else iter(())


def _rows(path: Path, cls: type[Row]) -> list[Row]:
    """Return the rows of a table; [] when it does not exist."""
    return list(_iterate(path, cls))


def _text(path: Path) -> str:
    """Return the text of a file; empty when it does not exist."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _names(path: Path) -> list[str]:
    """Return the action names of a run; [] when there is no list of them."""
    return [line for line in _text(path).splitlines() if line.strip()]


def _backbone(path: Path) -> str:
    """Return the backbone that a file of settings names; empty when it names none."""
    return str(read_settings(path).get("backbone", "")) if path.is_file() else ""


def _examples(matches: Sequence[Match], seed: int) -> list[Match]:
    """Return the matches of some videos, drawn at random."""
    by_video = {m.video: m for m in matches}
    return [by_video[video] for video in shuffled(list(by_video), "report", seed)[:N_EXAMPLES]]


def _chosen(
    run: Run, wanted: set[str], changed: Mapping[str, Rows]
) -> tuple[dict[str, Video], int]:
    """Return the videos of these ids and of the changed rows, and the number of the run's unlabelled videos."""
    wanted = wanted | {row["video"] for rows in changed.values() for row in rows}
    chosen = {v.id: v for v in _iterate(run.eval.manifest, Video) if v.id in wanted}
    n_videos = 0
    for video in _iterate(run.manifest, Video):
        n_videos += 1
        if video.id in wanted:
            chosen[video.id] = video
    return chosen, n_videos


def _shown(
    examples: Sequence[Match],
    videos: Mapping[str, Video],
    strips: Mapping[str, list[str]],
    bags: Sequence[Bag],
    captions: Path,
) -> list[dict[str, Any]]:
    """Return for each example its path, frames, match, different captions, and the texts of its bag."""
    wanted = {m.video for m in examples}
    bag_texts = {b.video: b.texts for b in bags if b.video in wanted}
    rows = _iterate(captions, Caption)
    captions_of = {c.video: list(dict.fromkeys(c.captions)) for c in rows if c.video in wanted}
    return [
        {
            "path": videos[m.video].path if m.video in videos else m.video,
            "frames": strips.get(m.video, []),
            "match": m,
            "captions": captions_of.get(m.video, []),
            "bag": [
                (t.text, t.source, findings.source_kind(t.source))
                for t in bag_texts.get(m.video, ())
            ],
        }
        for m in examples
    ]


def _changes(
    predictions: Rows,
    answers: Rows,
    changed: Mapping[str, Rows],
    videos: Mapping[str, Video],
    strips: Mapping[str, list[str]],
) -> list[dict[str, Any]]:
    """Return for the unlabelled and for the labelled videos what changed, in figures and with some videos."""
    tables = (
        ("Your videos", findings.both(predictions), changed["collection"]),
        ("Labelled evaluation clips", findings.both(answers), changed["eval"]),
    )
    return [
        {
            "title": title,
            "n": len(rows),
            "n_changed": sum(
                findings.best(r, "frozen") != findings.best(r, "adapted") for r in rows
            ),
            "pairs": findings.pairs(rows),
            "balance": findings.balance(rows),
            "shown": [
                {
                    "path": row.get("path", row["video"]),
                    "label": row.get("label"),
                    "frames": strips.get(row["video"], []),
                    "top": {model: row[model][:3] for model in ("frozen", "adapted")},
                }
                for row in shown
            ],
        }
        for title, rows, shown in tables
        if rows
    ]


def _training(train: Rows, control: Rows) -> dict[str, Any] | None:
    """Return the figures of the training from the rows of its steps and of those of the control."""
    if not train:
        return None
    trainings = {"adapted": train, "control": control}
    losses = {key: (key, *_points(rows, "loss")) for key, rows in trainings.items() if rows}
    steps, lrs = _points(train, "lr")
    seconds = sum(float(row["seconds"]) for row in train)
    return {
        "steps": len(train),
        "epochs": 1 + max(int(row["epoch"]) for row in train),
        "clips": sum(int(row["clips"]) for row in train),
        "seconds": seconds,
        "waited": 100 * sum(float(row["data_seconds"]) for row in train) / max(seconds, 1e-9),
        "first": train[0]["loss"],
        "last": train[-1]["loss"],
        "loss": figures.lines(losses, x="step", y="loss"),
        "lr": figures.lines(
            {"adapted": ("lr", steps, lrs)}, x="step", y="learning rate", zero=True
        ),
        "wait": figures.lines(
            {"adapted": ("wait", steps, [_wait(row) for row in train])},
            x="step",
            y="% of the step",
            zero=True,
        ),
    }


def _points(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Return the steps of these rows, and the values of one key."""
    return [float(row["step"]) for row in rows], [float(row[key]) for row in rows]


def _wait(row: Mapping[str, Any]) -> float:
    """Return the percentage of a step that was spent waiting for data."""
    return 100 * float(row["data_seconds"]) / max(float(row["seconds"]), 1e-9)


def _matching(matches: Sequence[Match]) -> dict[str, Any] | None:
    """Return the figures of the matches; the threshold is None when all are kept."""
    if not matches:
        return None
    kept = [m.score for m in matches if m.kept]
    threshold = min(kept) if len(kept) < len(matches) and kept else None
    commonest = Counter(m.name for m in matches).most_common()
    commonest.sort(key=lambda item: (-item[1], item[0]))
    return {
        "n": len(matches),
        "kept": len(kept),
        "threshold": threshold,
        "used": len(commonest),
        "histogram": figures.histogram(
            [m.score for m in matches], x="cosine of the match", threshold=threshold
        ),
        "names": figures.bars(dict(commonest[: findings.N_NAMES])),
    }


def _evaluation(results: Rows, answers: Rows) -> dict[str, Any] | None:
    """Return the figures of the labelled videos: accuracy by label, confusion of both models, and conditions."""
    if not results:
        return None
    confusions = {model: findings.confusion(answers, model) for model in ("adapted", "frozen")}
    return {
        **findings.by_label(results),
        "confusion": {
            model: {
                "svg": figures.heatmap(confusion.table, confusion.labels, confusion.columns),
                "shown": len(confusion.labels),
                "labels": confusion.n_labels,
            }
            for model, confusion in confusions.items()
            if confusion
        },
        "conditions": results[0].get("conditions", {}),
    }


def _bags(bags: Sequence[Bag]) -> dict[str, Any] | None:
    """Return the figures of the bags."""
    if not bags:
        return None
    statistics = bag_statistics(bags)
    sizes = figures.histogram([len(bag.texts) for bag in bags], x="texts in the bag")
    sources: Any = statistics["sources"]
    kinds = [(source, findings.source_kind(source), count) for source, count in sources.items()]
    return {**statistics, "sizes": sizes, "kinds": kinds}
