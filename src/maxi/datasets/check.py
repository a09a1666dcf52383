"""Compare what is on disk of a dataset with its official lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxi.datasets.own import locate_own
from maxi.datasets.preset import Found, Preset, locate
from maxi.datasets.presets import PRESETS
from maxi.errors import choose

MOST_NAMES = 20  # with missing videos that are shown of a split


@dataclass(frozen=True)
class Checked:
    """What was found of each split, and the official numbers of videos, {} where there are none."""

    title: str
    found: Sequence[Found]
    official: Mapping[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether all splits list as many videos as they should, and all of these are there."""
        listed = {part.split.name: len(part.split.items) for part in self.found}
        return not any(p.missing for p in self.found) and (self.official or listed) == listed

    def lines(self) -> Iterator[str]:
        """Yield what is there and what is missing, in words."""
        yield f"{self.title}: {len(self.found[0].split.names)} names"
        for part in self.found:
            split, official = part.split, self.official.get(part.split.name)
            listed = f"{len(split.items):,} videos listed"
            if official not in (None, len(split.items)):
                listed += f" (officially {official:,})"
            yield f"split {split.name}: {listed}, {len(part.videos):,} found, {len(part.missing):,} missing"
            rows = part.missing_by_name()
            for name, missing, of in rows[:MOST_NAMES]:
                yield f"  {name}: {missing} of {of} missing"
            if len(rows) > MOST_NAMES:
                yield f"  and {len(rows) - MOST_NAMES} more names with missing videos"

    def json_lines(self) -> Iterator[str]:
        """Yield a JSON object for each split, with its lists and the paths that are missing."""
        for part in self.found:
            row = {
                "dataset": self.title,
                "split": part.split.name,
                "names": len(part.split.names),
                "official": self.official.get(part.split.name),
                "listed": len(part.split.items),
                "found": len(part.videos),
                "lists": [str(path) for path in part.split.sources],
                "missing": [item.path for item in part.missing],
            }
            yield json.dumps(row, ensure_ascii=False)


def check_dataset(name: str, root: str, lists: Path | None = None) -> Checked:
    """Compare the folder `root` with the lists of the dataset `name`, which are in `lists`, by default in `root`.

    The name `own` stands for class folders or a table of one's own. Raises MaxiError for an unknown name, for lists
    that are missing or broken, and when none of the videos is there.
    """
    if name == "own":
        return Checked(root, locate_own(root), {})
    preset = choose(PRESETS, name, "dataset")
    return Checked(preset.title, locate(preset, Path(root), lists), preset.counts)


def is_preset(spec: str) -> bool:
    """Return whether a spec is `NAME:ROOT` with the name of a preset."""
    name, colon, _ = spec.partition(":")
    return bool(colon) and name in PRESETS


def located(spec: str, lists: Path | None = None) -> tuple[str, Preset | None, Sequence[Found]]:
    """Return the name of a dataset, its preset and its videos: of `NAME:ROOT`, or of labelled videos of one's own."""
    if is_preset(spec):
        name, _, root = spec.partition(":")
        return name, PRESETS[name], locate(PRESETS[name], Path(root), lists)
    return Path(spec).stem, None, locate_own(spec)
