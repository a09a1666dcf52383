"""A dataset of one's own: class folders, or a table with `path`, `label` and, where there are splits, `split`."""

from __future__ import annotations

from collections.abc import Sequence

from maxi.datasets.lists import Item
from maxi.datasets.preset import Found, Split
from maxi.errors import MaxiError
from maxi.text.names import distinct, same
from maxi.video.sources import list_videos

TRAINING = ("train", "training")
"""Splits that are trained on, and not measured where there are others."""


def locate_own(where: str) -> list[Found]:
    """Return the labelled videos of a folder or table, split by split, and those that are not there.

    A table with a column `split` has the splits that stand in it; `X.csv:SPLIT` is one of them. All choose from the
    same names. Raises MaxiError when videos have no labels.
    """
    sources = list_videos(where)
    if unlabelled := [source for source in sources if source.label is None]:
        raise MaxiError(
            f"{where}: {len(unlabelled)} of {len(sources)} videos have no label, first {unlabelled[0].path}; "
            "use class folders, or a csv with path and label"
        )
    names = list(distinct(str(source.label) for source in sources))
    places = {same(name): k for k, name in enumerate(names)}
    found = []
    for split in dict.fromkeys(source.split or "all" for source in sources):
        pairs = [
            (source.path, Item(str(source.path), (places[same(str(source.label))],)))
            for source in sources
            if (source.split or "all") == split
        ]
        videos = [(path, item) for path, item in pairs if path.exists()]
        missing = [item for path, item in pairs if not path.exists()]
        found.append(Found(Split(split, names, [item for _, item in pairs], ()), videos, missing))
    return found


def tested(found: Sequence[Found]) -> list[Found]:
    """Return the splits that are measured: all, but for those of training videos where there are others."""
    return [part for part in found if part.split.name.lower() not in TRAINING] or list(found)


def trained(found: Sequence[Found]) -> Found | None:
    """Return the split of training videos, or None."""
    return next((part for part in found if part.split.name.lower() in TRAINING), None)
