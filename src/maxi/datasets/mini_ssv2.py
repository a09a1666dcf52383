"""MiniSSv2 (Chen et al. 2021): 87 of the names of Something-Something v2, and their validation videos."""

from __future__ import annotations

from maxi.datasets.files import ListFolder
from maxi.datasets.preset import Preset, Split, field_splits

COUNTS = {"val": 11799}


def read(lists: ListFolder) -> list[Split]:
    """Read the field's list."""
    return field_splits(
        lists,
        ("mini_ssv2.csv", "minissv2_labels.csv"),
        {"val": ("mini_ssv2_val.txt", "validation_mini.txt")},
    )


PRESET = Preset(
    "mini_ssv2",
    "MiniSSv2",
    87,
    COUNTS,
    "the `path label` list validation_mini.txt with minissv2_labels.csv",
    read,
)
