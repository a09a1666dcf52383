"""The page of `maxi demo`: whether the method helped on actions it never saw, and whether that test was fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxi import figures
from maxi.config import Config
from maxi.datasets import list_videos
from maxi.decoding import Decoder
from maxi.findings import Rows, signed, source_kind
from maxi.miniature.actions import ACTIONS, N_KNOWN
from maxi.miniature.scenery import OBJECTS
from maxi.pages import fill, previews
from maxi.randomness import shuffled
from maxi.records import Bag, Match, Video, read_jsonl, write_text
from maxi.runs import Run

N_EXAMPLES, N_TEXTS = 8, 12
N_FRAMES, HEIGHT = 4, 120


class Model(NamedTuple):
    """The colour of a model in figures, and what it was trained on."""

    colour: str
    trained_on: str


OWN = "; a video's own bag is its only positive"
MODELS = {
    "frozen": Model("frozen", "nothing: the tiny CLIP as it was pre-trained"),
    "centred": Model("frozen", "nothing; the mean of the unlabelled videos is taken off features"),
    "averaged_phrases": Model(
        "frozen",
        "nothing; class texts are means of a name and its phrases, which it has for unseen ones too",
    ),
    "adapted": Model("adapted", "full bags: phrases of the match, captions of the frames"),
    "adapted_instance": Model("adapted", f"full bags{OWN}"),
    "names_only": Model("adapted", "the matched name alone"),
    "names_only_instance": Model("adapted", f"the matched name alone{OWN}"),
    "names_phrases": Model("adapted", "bags of phrases, no captions"),
    "names_phrases_instance": Model("adapted", f"bags of phrases, no captions{OWN}"),
    "names_captions": Model("adapted", "bags of captions, no phrases"),
    "names_captions_instance": Model("adapted", f"bags of captions, no phrases{OWN}"),
    "shuffled": Model("control", "full bags, dealt to other videos"),
    "permuted": Model("control", "names alone, each replaced by another one throughout"),
    "true_labels": Model("ink", "full bags of the true action in place of the match"),
}
"""In the order of the page. What has the colour `frozen` is not trained, `ink` is told the labels."""

COLOURS = {
    "frozen": "grey is not trained",
    "adapted": "green is trained without labels",
    "control": "orange is a control that should gain nothing on unseen actions",
    "ink": "dark is told the true labels",
}


def write_showcase(folder: Path, records: Rows, facts: Rows, summary: Rows, config: Config) -> Path:
    """Write `folder/report.html` from a demonstration's records, facts of its seeds, and summary.

    Examples and links come from `folder/seed-K` and are left out where it is not there.
    """
    split = _split(summary)
    first = min(record["seed"] for record in records)
    seeds = sorted({record["seed"] for record in records})
    page = fill(
        "showcase.html.j2",
        sentences=_outcome(records, summary),
        split=split,
        n_actions=len(ACTIONS),
        seeds=seeds,
        leaked=sum(row["unseen_names_in_bags"] for row in facts),
        signed=signed,
        accuracy=accuracy_figure(records, summary),
        key=_key(summary),
        models=_table(summary),
        changes=_changes(records, split, first),
        examples=_examples(folder / f"seed-{first}", first, config),
        facts=_facts(facts),
        settings=_settings(config),
        links=[link for link in _links(seeds) if (folder / link).is_file()],
    )
    path = folder / "report.html"
    write_text(path, [page])
    return path


def accuracy_figure(records: Rows, summary: Rows) -> str:
    """Top-1 of every model on the unseen actions, as inline SVG in the page's colours."""
    rows = _of_split(summary, _split(summary))
    bars = {
        _title(model): figures.Bar(row["top1"], *row["interval"], _model(model).colour)
        for model, row in rows.items()
    }
    chance = 100 / _n_names(records, _split(summary))
    return figures.intervals(bars, x="top-1 % on unseen actions", chance=chance)


def _split(summary: Rows) -> str:
    """`unseen`, or `validation` of a demonstration on the actions on which settings are chosen."""
    return "unseen" if any(row["split"] == "unseen" for row in summary) else "validation"


def _of_split(summary: Rows, split: str) -> dict[str, dict[str, Any]]:
    """The rows of a split by model, in the order of `MODELS`; models that it lacks come last."""
    rows = {row["model"]: row for row in summary if row["split"] == split}
    return {model: rows[model] for model in dict.fromkeys([*MODELS, *rows]) if model in rows}


def _model(name: str) -> Model:
    return MODELS.get(name, Model("adapted", ""))


def _title(model: str) -> str:
    return model.replace("_", " ")


def _n_names(records: Rows, split: str) -> int:
    return int(next(r["conditions"]["names"] for r in records if r["split"] == split))


def _outcome(records: Rows, summary: Rows) -> list[str]:
    split = _split(summary)
    rows, names = _of_split(summary, split), _n_names(records, split)
    row, frozen = rows["adapted"], rows["frozen"]
    several = row["seeds"] > 1
    where = (
        f"In {row['seeds']} trials, each with {names} actions that no video, name, phrase or bag of it showed,"
        if several
        else f"On {names} actions that no video, name, phrase or bag showed,"
    )
    over = f"over the {row['seeds']} trials" if several else "over the videos"
    said = [
        f"{where} the adapted model is right on {row['top1']:.1f} % of {row['n']:,} videos, the one it started from"
        f" on {frozen['top1']:.1f} %: {_gain(row)}. {_verdict(row, over)}"
    ]
    if control := rows.get("shuffled"):
        said.append(
            f"The shuffled control, trained on the same bags dealt to other videos, changes by {_gain(control)}. "
            f"{_verdict(control, over)}"
        )
    return said


def _gain(row: Mapping[str, Any]) -> str:
    low, high = row["gain_interval"]
    return f"{signed(row['gain'])} points [{signed(low)}, {signed(high)}]"


def _verdict(row: Mapping[str, Any], over: str) -> str:
    low, high = row["gain_interval"]
    interval = f"The 95 % interval {over}"
    if low > 0:
        gained = "owes nothing to the matches" if row["model"] == "shuffled" else "no chance find"
        return f"{interval} excludes 0: this gain is {gained}."
    if high < 0:
        return f"{interval} lies below 0: this model is worse than the one it started from."
    return f"{interval} includes 0: no gain can be told."
