"""The table of all studies."""

from __future__ import annotations

from maxi.studies import (
    bag_contents,
    bag_size,
    contrast,
    control,
    frames,
    keep,
    objective,
    sources,
    temporal,
)
from maxi.studies.study import Study

STUDIES: dict[str, Study] = {
    "sources": sources.STUDY,
    "keep": keep.STUDY,
    "bagcontents": bag_contents.STUDY,
    "objective": objective.STUDY,
    "bagsize": bag_size.STUDY,
    "temporal": temporal.STUDY,
    "contrast": contrast.STUDY,
    "frames": frames.STUDY,
    "control": control.STUDY,
}
