"""UCF101 (Soomro, Zamir and Shah 2012): 101 actions, three test splits."""

from __future__ import annotations

from pathlib import Path

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import indexed, lines_of, read_id_names
from maxi.datasets.preset import Preset, Split, field_splits, half_lists, shot_list, training_list
from maxi.errors import MaxiError

COUNTS = {"1": 3783, "2": 3734, "3": 3696}


def read(lists: ListFolder) -> list[Split]:
    """Read the field's lists, else the authors' `testlist01.txt` and `classInd.txt`."""
    if lists.find("ucf101.csv", "ucf_101_labels.csv"):
        endings = {k: (f"ucf101_val{k}.txt", f"ucf_splits/val{k}.txt") for k in COUNTS}
        return field_splits(lists, ("ucf101.csv", "ucf_101_labels.csv"), endings)
    return [_authors(lists, k, f"testlist0{k}.txt") for k in COUNTS]


def _authors(lists: ListFolder, k: str, ending: str) -> Split:
    table = lists.require("names", "ucf101.csv", "ucf_101_labels.csv", "classInd.txt")
    names = _names(table)
    path = lists.require(f"list of split {k}", ending)
    videos = [line.split()[0] for _, line in lines_of(path)]
    # The class of a video is its folder; one class is spelled in two ways.
    rows = [(video, video.partition("/")[0]) for video in videos]
    spelled = [(video, name.replace("HandStand", "Handstand")) for video, name in rows]
    return Split(k, names, indexed(spelled, names, path), (table, path))


def _names(table: Path) -> list[str]:
    """Read the names of a table of the field, or of the authors, which counts from 1."""
    if table.suffix == ".csv":
        return read_id_names(table)
    names: list[str] = []
    for number, line in lines_of(table):
        parts = line.split()
        if len(parts) != 2 or parts[0] != str(len(names) + 1):
            raise MaxiError(f"{table}:{number}: not the next number and a name; copy it again")
        names.append(parts[1])
    return names


PRESET = Preset(
    "ucf101",
    "UCF101",
    101,
    COUNTS,
    "`path label` lists val1.txt to val3.txt with ucf_101_labels.csv, or testlist01.txt to testlist03.txt with "
    "classInd.txt",
    read,
    shots=shot_list(101, "ucf101_train1_{k}shot.txt", "ucf_splits/train1_few_shot_{k}.txt"),
    training=training_list(
        101,
        lambda lists: _authors(lists, "1", "trainlist01.txt"),
        "ucf101_train1.txt",
        "ucf_splits/train1.txt",
    ),
    halves=half_lists("ucf101", "ucf_101", "ucf_splits"),
)
