"""UAV-Human (Li et al. 2021), cross-subject: 155 actions, two test splits of 30 persons each."""

from __future__ import annotations

import re

from maxi.datasets.files import ListFolder
from maxi.datasets.preset import Preset, Split, field_splits
from maxi.errors import MaxiError

COUNTS = {"1": 6191, "2": 6292}


def read(lists: ListFolder) -> list[Split]:
    """Read the field's lists; the action in a file's name (`A070`) must be its label."""
    endings = {k: (f"uav_human_test{k}.txt", f"UAV_human_splits/test_split{k}.txt") for k in COUNTS}
    splits = field_splits(lists, ("uav_human.csv", "UAV_human_labels.csv"), endings)
    for split in splits:
        for item in split.items:
            action = re.search(r"A(\d{3})R\d", item.path)
            if action and (int(action[1]),) != item.labels:
                raise MaxiError(
                    f"{split.sources[1]}: {item.path} has the label {item.labels[0]}, and its name says "
                    f"{int(action[1])}; copy the list again"
                )
    return splits


PRESET = Preset(
    "uav_human",
    "UAV-Human",
    155,
    COUNTS,
    "`path label` lists test_split1.txt and test_split2.txt with UAV_human_labels.csv",
    read,
)
