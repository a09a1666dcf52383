"""Compare the rows of two files of results: first what differs in their conditions, then the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxi.documents import DatasetRow, read_document
from maxi.errors import MaxiError
from maxi.method.metrics import with_interval

Row = Mapping[str, Any]

MEASURED_ON = ("videos", "names", "prompt", "name_texts", "n_frames", "views")
"""Conditions without which two figures are not of the same thing; the others belong to the models and the machine."""

OF_NO_FIGURE = ("date", "seconds", "distinct_videos")
FIGURES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "per class"}
FIGURES |= {"map_softmax": "mAP (softmax)", "map_cosine": "mAP (cosine)"}


def compare_files(first: Path, second: Path, *, anyway: bool = False) -> list[str]:
    """Return in lines how the rows of two files of results differ: in their conditions, then in their figures.

    Rows of one dataset, split, form of the names and model are compared; where both files have one model, whatever they
    call it. Raises MaxiError when no rows can be compared, and, unless `anyway`, when they were measured on different
    things.
    """
    pairs = list(_pairs(_rows(first), _rows(second)))
    if not pairs:
        raise MaxiError(
            f"{first} and {second} have no dataset, split, form of the names and model in common; measure both on one "
            "dataset with `maxi eval --on`"
        )
    lines, unlike = [], []
    for a, b in pairs:
        title = " · ".join((a["dataset"], a["split"], a["names"], a["part"]))
        models = a["model"] if a["model"] == b["model"] else f"{a['model']} and {b['model']}"
        lines.append(f"{title} · {models}")
        for name, one, other in _differences(a["conditions"], b["conditions"]):
            lines.append(f"  {name}: {one} | {other}")
            if name.partition(".")[0] in MEASURED_ON:
                unlike.append(f"{title}: {name}")
        lines += _figures(a, b)
    if unlike and not anyway:
        raise MaxiError(
            f"{first} and {second} were measured on different things ({', '.join(dict.fromkeys(unlike))}); measure "
            "both alike, or add --anyway to see their differences"
        )
    return lines


def _rows(path: Path) -> list[dict[str, Any]]:
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise MaxiError(f"{path} does not exist; name a results.json that `maxi eval --on` wrote")
    rows: list[dict[str, Any]] = read_document(path, list[DatasetRow])
    return rows


def _pairs(first: Sequence[Row], second: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield the rows that belong together; of rows that were added later, the last.

    What is one in each file, such as the model, need not be called alike.
    """
    fields = [
        *("dataset", "split", "names", "part"),
        *(
            field
            for field in ("texts", "model")
            if any(len({_value(row, field) for row in rows}) > 1 for rows in (first, second))
        ),
    ]
    tables = [
        {tuple(_value(row, field) for field in fields): row for row in rows}
        for rows in (first, second)
    ]
    for key, row in tables[0].items():
        if key in tables[1]:
            yield row, tables[1][key]


def _value(row: Row, field: str) -> str:
    """Return a field of a row; rows without a kind of texts for names had the prompt."""
    return str(row.get(field, "prompt"))


def _differences(first: Row, second: Row, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the conditions that differ, with both values; those on what was measured come first."""
    names = sorted({*first, *second}, key=lambda name: (name not in MEASURED_ON, name))
    for name in names:
        one, other = first.get(name), second.get(name)
        if one == other or name in OF_NO_FIGURE:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(one), str(other)


def _figures(first: Row, second: Row) -> Iterator[str]:
    for name, title in FIGURES.items():
        if name not in first or name not in second:
            continue
        difference = second[name] - first[name]
        shown = f"{difference:+.2f}"
        if f"{name}_interval" in first and f"{name}_interval" in second:
            shown = with_interval(difference, _newcombe(first, second, name))
        yield f"  {title}: {first[name]:.2f} | {second[name]:.2f}   {shown}"


def _newcombe(first: Row, second: Row, name: str) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares by their own intervals (Newcombe 1998), in points.

    It takes the videos of both as independent. For two models on the same videos it is too wide; `maxi eval` of a run
    pairs them.
    """
    (low_a, high_a), (low_b, high_b) = first[f"{name}_interval"], second[f"{name}_interval"]
    a, b = first[name], second[name]
    return (
        b - a - math.hypot(b - low_b, high_a - a),
        b - a + math.hypot(high_b - b, a - low_a),
    )
