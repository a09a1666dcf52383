"""The rows of datasets, as tables of the report, with the paper's published figures beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maxi.datasets.published import PUBLISHED
from maxi.method.metrics import with_interval

MANY_MISSING = 0.01  # a larger share of videos that are not measured is told beside the figures


Row = Mapping[str, Any]


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
                "confused": [
                    {"title": " · ".join((row["split"], row["names"], row["texts"], row["model"]))}
                    | {"pairs": row["confused"]}
                    for row in own
                    if row.get("confused")
                ],
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
        "texts": row.get("texts", "prompt"),
        "first": _figure(row, "map_softmax" if is_map else "top1"),
        "second": _figure(row, "map_cosine" if is_map else "top5"),
        "gain": with_interval(gain["gain"], gain["interval"]) if gain else "",
        "is_map": is_map,
    }


def _conditions(row: Mapping[str, Any]) -> str:
    conditions = row["conditions"]
    return f"{conditions.get('prompt')}, frames: {conditions.get('n_frames')}, {conditions.get('views')}"


def table_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield rows as lines of a table for the terminal; a share of missing videos over 1 % is told in the same line."""
    widest = max(len(row["model"]) for row in rows)
    head = f"{'dataset':10} {'split':9} {'names':10} {'part':7} {'texts':9} {'model':{widest}} {'n':>6}"
    yield f"{head} {'top-1':>12} {'top-5':>12} {'per class':>10}"
    for row in rows:
        place = f"{row['dataset']:10} {row['split']:9} {row['names']:10} {row['part']:7}"
        model = f"{row['texts']:9} {row['model']:{widest}}"
        yield f"{place} {model} {row['n']:6,} {_figures(row)}"
    for name, n in {row["dataset"]: row["conditions"]["distinct_videos"] for row in rows}.items():
        yield f"{name}: {n:,} distinct videos"


def _figures(row: Mapping[str, Any]) -> str:
    if "map_softmax" in row:
        text = f"mAP {row['map_softmax']:.2f} (softmax), {row['map_cosine']:.2f} (cosine)"
    else:
        text = (
            f"{_figure(row, 'top1'):>12} {_figure(row, 'top5'):>12} {row['mean_per_class']:10.1f}"
        )
    if gain := row.get("gain", {}).get("top1"):
        text += f"   top-1 {with_interval(gain['gain'], gain['interval'])}"
    listed = row["n"] + row["missing"]
    if row["missing"] > MANY_MISSING * listed:
        text += f"   {row['missing']:,} of {listed:,} videos missing"
    return text


def _figure(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    std = f" ± {row[f'{name}_std']:.1f}" if f"{name}_std" in row else ""
    return f"{row[name]:.1f}{std}"
