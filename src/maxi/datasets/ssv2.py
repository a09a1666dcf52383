"""Something-Something v2 (Goyal et al. 2017), its validation videos."""

from __future__ import annotations

from typing import Any

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import indexed, text_of
from maxi.datasets.preset import Preset, Split, field_splits, half_lists, shot_list, training_list
from maxi.errors import MaxiError
from maxi.files import parse_json

COUNTS = {"val": 24777}
NAMES = ("ssv2.csv", "ssv2_labels.csv")


def read(lists: ListFolder) -> list[Split]:
    """Read the field's list, else the authors' `validation.json` and `labels.json`."""
    if lists.find(*NAMES):
        return field_splits(lists, NAMES, {"val": ("ssv2_val.txt", "ssv2_splits/validation.txt")})
    return [_authors(lists, "val", "validation")]


def _authors(lists: ListFolder, split: str, part: str) -> Split:
    table = lists.require(
        "names", "something-something-v2-labels.json", "labels/labels.json", "labels.json"
    )
    path = lists.require(
        f"list of split {split}",
        *(f"something-something-v2-{part}.json", f"labels/{part}.json", f"{part}.json"),
    )
    try:
        ids: Any = parse_json(text_of(table))
        rows: Any = parse_json(text_of(path))
        names = [name for name, _ in sorted(ids.items(), key=lambda pair: int(pair[1]))]
        videos = [(f"{row['id']}.webm", _plain(row["template"])) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MaxiError(
            f"{path} and {table} are not the authors' lists of videos and names; copy them again"
        ) from error
    return Split(split, names, indexed(videos, names, path), (table, path))


def _plain(template: str) -> str:
    """Return a template without the brackets of its places."""
    return template.replace("[", "").replace("]", "")


PRESET = Preset(
    "ssv2",
    "Something-Something v2",
    174,
    COUNTS,
    "the `path label` list validation.txt with ssv2_labels.csv, or something-something-v2-validation.json with "
    "something-something-v2-labels.json",
    read,
    shots=shot_list(174, "ssv2_train1_{k}shot.txt", "ssv2_splits/train1_few_shot_{k}.txt"),
    training=training_list(
        174,
        lambda lists: _authors(lists, "train", "train"),
        "ssv2_train.txt",
        "ssv2_splits/train.txt",
    ),
    halves=half_lists("ssv2", "ssv2_174", "ssv2_splits"),
)
