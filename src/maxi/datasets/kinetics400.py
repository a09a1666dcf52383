"""Kinetics-400 (Kay et al. 2017), its validation videos; many of them can no longer be downloaded."""

from __future__ import annotations

from maxi.datasets.files import ListFolder
from maxi.datasets.lists import indexed, table_of
from maxi.datasets.preset import Preset, Split, field_splits, half_lists, training_list
from maxi.errors import MaxiError

COUNTS = {"val": 19877}
TRAINING = ("kinetics400/train.csv", "kinetics_train.csv", "train.csv")
NAMES = ("kinetics400.csv", "kinetics_400_labels.csv")


def read(lists: ListFolder) -> list[Split]:
    """Read the field's list, else the authors' `val.csv` with `label`, `youtube_id`, `time_start` and `time_end`."""
    if lists.find(*NAMES):
        return field_splits(lists, NAMES, {"val": ("kinetics400_val.txt", "k400_splits/val.txt")})
    endings = ("kinetics400/validate.csv", "kinetics_val.csv", "val.csv", "validate.csv")
    return [_authors(lists, "val", *NAMES, *endings)]


def _authors(lists: ListFolder, split: str, *endings: str) -> Split:
    path = lists.require("list", *endings)
    rows = table_of(path)
    try:
        videos = [
            (
                f"{r['youtube_id']}_{int(r['time_start']):06d}_{int(r['time_end']):06d}.mp4",
                r["label"],
            )
            for r in rows
        ]
    except (KeyError, ValueError) as error:
        raise MaxiError(
            f"{path}: not a table with label, youtube_id, time_start and time_end; copy it again"
        ) from error
    names = sorted({label for _, label in videos})
    return Split(split, names, indexed(videos, names, path), (path,))


PRESET = Preset(
    "k400",
    "Kinetics-400",
    400,
    COUNTS,
    "the `path label` list val.txt with kinetics_400_labels.csv, or the authors' val.csv",
    read,
    training=training_list(
        400,
        lambda lists: _authors(lists, "train", *TRAINING),
        "kinetics400_train.txt",
        "k400_splits/train.txt",
    ),
    halves=half_lists("kinetics400", "kinetics_400", "k400_splits"),
)
