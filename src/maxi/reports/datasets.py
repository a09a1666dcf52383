"""The rows of datasets, as tables of the report, with the paper's published figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maxi.datasets.published import PUBLISHED
from maxi.method.metrics import with_interval


def dataset_tables(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each dataset its rows in words: the means over splits where there are several, and the splits."""
    tables = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        means = [row for row in own if row["split"].startswith("mean of ")]
        tables.append(
            {
                "title": dataset,
                "rows": [_in_words(row) for row in means or own],
                "splits": [_in_words(row) for row in own if row not in means] if means else [],
                "conditions": list(dict.fromkeys(_conditions(row) for row in own)),
                "published": PUBLISHED.get(dataset, []),
            }
        )
    return tables


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    gain = row.get("gain", {}).get("top1")
    is_map = "map_softmax" in row
    return {
        **{name: row[name] for name in ("split", "names", "part", "model", "n", "missing")},
        "first": _figure(row, "map_softmax" if is_map else "top1"),
        "second": _figure(row, "map_cosine" if is_map else "top5"),
        "gain": with_interval(gain["gain"], gain["interval"]) if gain else "",
        "is_map": is_map,
    }


def _conditions(row: Mapping[str, Any]) -> str:
    conditions = row["conditions"]
    return f"{conditions.get('prompt')}, frames: {conditions.get('n_frames')}, {conditions.get('views')}"


def _figure(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    std = f" ± {row[f'{name}_std']:.1f}" if f"{name}_std" in row else ""
    return f"{row[name]:.1f}{std}"
