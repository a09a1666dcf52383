"""Charades (Sigurdsson et al. 2016), its test videos; each shows several of 157 actions."""

from __future__ import annotations

import re

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import Item, lines_of, table_of
from maxi.datasets.preset import Preset, Split, field_splits
from maxi.errors import MaxiError

COUNTS = {"test": 1814}
NAMES = ("charades.csv", "charades_labels.csv")


def read(lists: ListFolder) -> list[Split]:
    """Read the field's list, else the authors' `Charades_v1_test.csv` and `Charades_v1_classes.txt`.

    Videos without an action are left out, as in the field's list.
    """
    if lists.find(*NAMES):
        endings = ("charades_test.txt", "charades_splits/test_split.txt")
        return field_splits(lists, NAMES, {"test": endings})
    table = lists.require("names", *NAMES, "Charades_v1_classes.txt")
    path = lists.require("list of split test", "Charades_v1_test.csv")
    names: list[str] = []
    for number, line in lines_of(table):
        code, _, name = line.strip().partition(" ")
        if code != f"c{len(names):03d}" or not name:
            raise MaxiError(f"{table}:{number}: not the next code and a name; copy it again")
        names.append(name.lower())
    items = []
    for row in table_of(path):
        labels = dict.fromkeys(
            int(code) for code in re.findall(r"\bc(\d{3})\b", row.get("actions", ""))
        )
        if labels and max(labels) >= len(names):
            raise MaxiError(
                f"{path}: {row.get('id')} has an action beyond {table}; copy both again"
            )
        if labels:
            items.append(Item(f"{row['id']}.mp4", tuple(labels)))
    return [Split("test", names, items, (table, path))]


PRESET = Preset(
    "charades",
    "Charades",
    157,
    COUNTS,
    "the `path id id ...` list test_split.txt with charades_labels.csv, or Charades_v1_test.csv with "
    "Charades_v1_classes.txt",
    read,
    several_labels=True,
)
