"""The table of all studies."""

from __future__ import annotations

from maxi.studies import (
    bag_contents,
    bag_size,
    contrast,
    control,
    cures,
    dictionary,
    domains,
    ensemble,
    few_shot,
    frames,
    keep,
    objective,
    rivals,
    sources,
    temporal,
    untidy,
)
from maxi.studies.study import Study

STUDIES: dict[str, Study] = {
    "sources": sources.STUDY,
    "rivals": rivals.STUDY,
    "domains": domains.STUDY,
    "fewshot": few_shot.STUDY,
    "keep": keep.STUDY,
    "dictionary": dictionary.STUDY,
    "bagcontents": bag_contents.STUDY,
    "objective": objective.STUDY,
    "bagsize": bag_size.STUDY,
    "temporal": temporal.STUDY,
    "ensemble": ensemble.STUDY,
    "contrast": contrast.STUDY,
    "frames": frames.STUDY,
    "control": control.STUDY,
    "collections": untidy.STUDY,
    "cures": cures.STUDY,
}
