"""Moments in Time (Monfort et al. 2019), second version: 305 verbs, 100 validation videos each."""

from __future__ import annotations

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import indexed, lines_of
from maxi.datasets.preset import Preset, Split, field_splits
from maxi.errors import MaxiError

COUNTS = {"val": 30500}
NAMES = ("moments_in_time.csv", "moments_in_time_labels.csv")


def read(lists: ListFolder) -> list[Split]:
    """Read the field's list, else the authors' `validationSet.csv` and `moments_categories.txt`."""
    if lists.find(*NAMES):
        endings = ("moments_in_time_val.txt", "Moments_in_time_splits/val_split.txt")
        return field_splits(lists, NAMES, {"val": endings})
    table = lists.require("names", *NAMES, "moments_categories.txt")
    path = lists.require("list of split val", "validationSet.csv")
    pairs = [line.strip().rpartition(",") for _, line in lines_of(table)]
    if not all(number.isdigit() for _, _, number in pairs):
        raise MaxiError(f"{table}: not a name and a number on each line; copy it again")
    folders = [name for name, _, _ in sorted(pairs, key=lambda pair: int(pair[2]))]
    rows = [line.strip().split(",") for _, line in lines_of(path)]
    if any(len(row) < 2 for row in rows):
        raise MaxiError(f"{path}: not a path and a name on each line; copy it again")
    names = [folder.replace("+", " ") for folder in folders]
    items = indexed([(f"validation/{row[0]}", row[1]) for row in rows], folders, path)
    return [Split("val", names, items, (table, path))]


PRESET = Preset(
    "mit",
    "Moments in Time v2",
    305,
    COUNTS,
    "the `path label` list val_split.txt with moments_in_time_labels.csv, or validationSet.csv with "
    "moments_categories.txt",
    read,
)
