"""From unlabelled videos and action names to a CLIP that recognises actions better (MAXI, ICCV 2023).

The public names are resolved when they are first used, so that `import maxi` loads neither torch nor PyAV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxi.config import TrainConfig
    from maxi.errors import MaxiError
    from maxi.features.embedding import embed_videos, read_frames
    from maxi.method.bags import build_bags
    from maxi.method.captioning import caption
    from maxi.method.classification import classify
    from maxi.method.evaluation import evaluate
    from maxi.method.expansion import expand
    from maxi.method.matching import match
    from maxi.method.objectives import mil_nce
    from maxi.models.text_embeddings import embed_names
    from maxi.models.video_clip import VideoCLIP, load_model
    from maxi.stages.adapt import adapt
    from maxi.stages.index import read_videos
    from maxi.training.checkpoints import interpolate
    from maxi.training.fine_tuning import train

# The module, inside the package, that defines each public name.
_HOME = {
    "MaxiError": "errors",
    "TrainConfig": "config",
    "VideoCLIP": "models.video_clip",
    "adapt": "stages.adapt",
    "build_bags": "method.bags",
    "caption": "method.captioning",
    "classify": "method.classification",
    "embed_names": "models.text_embeddings",
    "embed_videos": "features.embedding",
    "evaluate": "method.evaluation",
    "expand": "method.expansion",
    "interpolate": "training.checkpoints",
    "load_model": "models.video_clip",
    "match": "method.matching",
    "mil_nce": "method.objectives",
    "read_frames": "features.embedding",
    "read_videos": "stages.index",
    "train": "training.fine_tuning",
}
__all__ = [
    "MaxiError",
    "TrainConfig",
    "VideoCLIP",
    "adapt",
    "build_bags",
    "caption",
    "classify",
    "embed_names",
    "embed_videos",
    "evaluate",
    "expand",
    "interpolate",
    "load_model",
    "match",
    "mil_nce",
    "read_frames",
    "read_videos",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maxi' has no attribute {name!r}")
    return getattr(import_module(f"maxi.{_HOME[name]}"), name)
