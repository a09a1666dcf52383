"""From unlabelled videos and action names to a CLIP that recognises actions better (MAXI, ICCV 2023).

The public names are resolved when they are first used, so that `import maxi` loads neither torch nor PyAV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxi.bags import build_bags
    from maxi.captioning import caption
    from maxi.checkpoint import interpolate
    from maxi.classification import classify
    from maxi.errors import MaxiError
    from maxi.evaluation import evaluate
    from maxi.expansion import expand
    from maxi.features import read_frames
    from maxi.matching import match
    from maxi.model import VideoCLIP, load_model
    from maxi.objectives import mil_nce
    from maxi.pipeline import adapt
    from maxi.training import train

_HOME = {
    "MaxiError": "errors",
    "VideoCLIP": "model",
    "adapt": "pipeline",
    "build_bags": "bags",
    "caption": "captioning",
    "classify": "classification",
    "evaluate": "evaluation",
    "expand": "expansion",
    "interpolate": "checkpoint",
    "load_model": "model",
    "match": "matching",
    "mil_nce": "objectives",
    "read_frames": "features",
    "train": "training",
}
__all__ = [
    "MaxiError",
    "VideoCLIP",
    "adapt",
    "build_bags",
    "caption",
    "classify",
    "evaluate",
    "expand",
    "interpolate",
    "load_model",
    "match",
    "mil_nce",
    "read_frames",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maxi' has no attribute {name!r}")
    return getattr(import_module(f"maxi.{_HOME[name]}"), name)
