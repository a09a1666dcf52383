"""HMDB51 (Kuehne et al. 2011): 51 actions, three test splits of 30 videos each action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import Item, lines_of
from maxi.datasets.preset import Preset, Split, field_splits, half_lists, shot_list, training_list
from maxi.errors import MaxiError

COUNTS = {"1": 1530, "2": 1530, "3": 1530}
NAMES = ("hmdb51.csv", "hmdb_51_labels.csv")

SWAPPED = (("kick ball", "kick"), ("sword exercise", "sword"))
"""Pairs of names that stand in each other's place in the table that is handed around; published figures use it."""


def corrected(names: Sequence[str]) -> list[str]:
    """Return the names of the table that is handed around, with the swapped ones put right."""
    places = {name: k for k, name in enumerate(names)}
    right = list(names)
    for first, second in SWAPPED:
        if places.get(first, -1) < places.get(second, -1):  # as handed around, and both are there
            right[places[first]], right[places[second]] = second, first
    return right


def read(lists: ListFolder) -> list[Split]:
    """Read the field's lists, else the authors' `<action>_test_split1.txt`, in which 2 marks a test video."""
    if lists.find(*NAMES):
        endings = {k: (f"hmdb51_val{k}.txt", f"hmdb_splits/val{k}.txt") for k in COUNTS}
        return field_splits(lists, NAMES, endings)
    return [_authors(lists, k, "2") for k in COUNTS]


def _authors(lists: ListFolder, k: str, mark: str) -> Split:
    """Read the videos with this mark in the authors' lists of split `k`."""
    if not (unordered := lists.all(f"_test_split{k}.txt")):
        raise MaxiError(
            f"{lists.root} holds no lists of HMDB51; looked for {', '.join(NAMES)} with val1.txt to val3.txt, and for "
            "brush_hair_test_split1.txt and so on: copy them there, or name another folder with --lists"
        )
    paths = sorted(unordered, key=_stem)
    names = [_stem(path).replace("_", " ") for path in paths]
    items = []
    for label, path in enumerate(paths):
        rows = (line.split() for _, line in lines_of(path))
        items += [Item(f"{_stem(path)}/{row[0]}", (label,)) for row in rows if row[1:] == [mark]]
    return Split(k, names, items, paths)


def _stem(path: Path) -> str:
    """Return the name of an action as it stands in the name of its list."""
    return path.name.lower().partition("_test_split")[0]


PRESET = Preset(
    "hmdb51",
    "HMDB51",
    51,
    COUNTS,
    "`path label` lists val1.txt to val3.txt with hmdb_51_labels.csv, or brush_hair_test_split1.txt and so on",
    read,
    shots=shot_list(51, "hmdb51_train1_{k}shot.txt", "hmdb_splits/train1_few_shot_{k}.txt"),
    training=training_list(
        51, lambda lists: _authors(lists, "1", "1"), "hmdb51_train1.txt", "hmdb_splits/train1.txt"
    ),
    halves=half_lists("hmdb51", "hmdb_51", "hmdb_splits"),
    corrected=corrected,
)
