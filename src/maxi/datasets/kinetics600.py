"""Kinetics-600 zero-shot (Chen and Huang 2021): three sets of 160 names that Kinetics-400 does not have."""

from __future__ import annotations

from maxi.datasets.files import ListFolder
from maxi.datasets.preset import Preset, Split, field_splits

COUNTS = {"1": 14084, "2": 13978, "3": 14136}


def read(lists: ListFolder) -> list[Split]:
    """Read the field's lists, each with its own table of names."""
    return [
        split
        for k in COUNTS
        for split in field_splits(
            lists,
            (f"kinetics600_zs_split{k}.csv", f"ZS_split{k}_K600.csv"),
            {k: (f"kinetics600_zs_split{k}.txt", f"ZS_split{k}_K600_eval.txt")},
        )
    ]


PRESET = Preset(
    "k600",
    "Kinetics-600 zero-shot",
    160,
    COUNTS,
    "`path label` lists ZS_split1_K600_eval.txt and so on, with ZS_split1_K600.csv and so on",
    read,
)
