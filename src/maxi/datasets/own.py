"""A dataset of one's own: class folders, or a table with `path`, `label` and, where there are splits, `split`."""

from __future__ import annotations

from maxi.datasets.lists import Item
from maxi.datasets.preset import Found, Split
from maxi.errors import MaxiError
from maxi.text.names import distinct, same
from maxi.video.sources import list_videos


def locate_own(where: str) -> list[Found]:
    """Return the labelled videos of a folder or table (`X.csv:SPLIT` for one split), and those that are not there.

    Raises MaxiError when videos have no labels.
    """
    sources = list_videos(where)
    if unlabelled := [source for source in sources if source.label is None]:
        raise MaxiError(
            f"{where}: {len(unlabelled)} of {len(sources)} videos have no label, first {unlabelled[0].path}; "
            "use class folders, or a csv with path and label"
        )
    names = list(distinct(str(source.label) for source in sources))
    places = {same(name): k for k, name in enumerate(names)}
    items = [Item(str(s.path), (places[same(str(s.label))],)) for s in sources]
    pairs = list(zip(sources, items, strict=True))
    videos = [(source.path, item) for source, item in pairs if source.path.exists()]
    missing = [item for source, item in pairs if not source.path.exists()]
    return [Found(Split("all", names, items, ()), videos, missing)]
