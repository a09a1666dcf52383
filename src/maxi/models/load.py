"""The table of backbones, and how one is found by its name or folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maxi.errors import MaxiError, choose, first_line
from maxi.files import read_json
from maxi.models.backbone import Backbone, Normalisation
from maxi.models.saving import SETTINGS

if TYPE_CHECKING:
    pass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# `module:function`, and the folder after it that the function is to load.
_OWN = re.compile(r"(?P<code>[\w.]+:\w+)(?::(?P<folder>.+))?")


def load_backbone(
    spec: str, device: str = "cpu", *, normalisation: Normalisation = "model"
) -> Backbone:
    """Load `clip:ID_OR_PATH`, `siglip:ID_OR_PATH`, `objects`, a model or run folder, or `module:function[:FOLDER]`.

    With `imagenet`, frames are to be normalised by ImageNet's constants, as in the released code,
    not by the model's own. Raises MaxiError when there is no such backbone or it cannot be used.
    """
    _check_device(device)
    backbone = _load(spec, device)
    if normalisation == "imagenet":
        backbone.mean, backbone.std = IMAGENET_MEAN, IMAGENET_STD
    return backbone


def _load(spec: str, device: str) -> Backbone:
    name, _, argument = spec.partition(":")
    if name in BACKBONES:
        return BACKBONES[name](argument, device)
    folder = Path(os.path.expanduser(spec))
    if folder.is_dir():
        return _load_folder(folder, device)
    if own := _OWN.fullmatch(spec):
        return choose(BACKBONES, own["code"], "backbone")(own["folder"] or "", device)
    if "/" in spec or os.sep in spec:
        raise MaxiError(
            f"{spec}: no such folder; pass a saved model or a run folder,"
            f" or `clip:{spec}` for a model of the hub"
        )
    return choose(BACKBONES, spec, "backbone")("", device)


def _load_folder(folder: Path, device: str) -> Backbone:
    if (folder / "model").is_dir():
        folder = folder / "model"
    if (folder / SETTINGS).is_file():
        kind = _kind(folder / SETTINGS)
    elif (folder / "config.json").is_file():
        kind = "siglip" if _model_type(folder / "config.json") == "siglip" else "clip"
    else:
        raise MaxiError(
            f"{folder}: neither a saved model (config.json or maxi.json) nor a run folder with"
            " model/ in it; train one with `maxi train`, or pass another folder"
        )
    return BACKBONES[kind](str(folder), device)


def _model_type(file: Path) -> object:
    settings = read_json(file)
    return settings.get("model_type") if isinstance(settings, dict) else None


def _kind(file: Path) -> str:
    """What a saved model says it is: never code to import, since models are passed from hand to hand."""
    data = read_json(file)
    kind = str(data.get("backbone")) if isinstance(data, dict) else "nothing"
    if kind not in BACKBONES:
        raise MaxiError(
            f"{file}: names {kind!r}, not one of {', '.join(BACKBONES)}; a model of your own code"
            f" is loaded with MODULE:FUNCTION:{file.parent}"
        )
    return kind


def saved_spec(spec: str, folder: str | Path) -> str:
    """The spec of a model in `folder` that a run saved whose backbone is `spec`."""
    own = None if spec.partition(":")[0] in BACKBONES else _OWN.fullmatch(spec)
    return f"{own['code']}:{folder}" if own else str(folder)


class Saved(NamedTuple):
    """What `VideoCLIP.save` wrote beside the backbone."""

    sigma: float | None = None
    temporal_blocks: int = 0


def saved_beside(spec: str) -> Saved:
    """What was written into the folder that `spec` names, if it names one."""
    kind, _, place = spec.partition(":")
    if kind not in BACKBONES:  # a folder, or MODULE:FUNCTION:FOLDER
        place = spec if Path(spec).expanduser().is_dir() else place.partition(":")[2]
    for folder in (Path(place, "model"), Path(place)) if place else ():
        path = folder.expanduser() / SETTINGS
        if path.is_file():
            settings = read_json(path)
            if not isinstance(settings, dict):
                settings = {"sigma": settings}
            sigma, blocks = settings.get("sigma"), settings.get("temporal_blocks", 0)
            if not (sigma is None or (isinstance(sigma, float) and 0 < sigma < math.inf)):
                raise MaxiError(f"{path}: sigma is {sigma!r}; train or copy the model again")
            if not (isinstance(blocks, int) and blocks >= 0):
                raise MaxiError(
                    f"{path}: temporal_blocks is {blocks!r}; train or copy the model again"
                )
            return Saved(sigma, blocks)
    return Saved()


def _clip(name: str, device: str) -> Backbone:
    from maxi.models.clip import load_clip

    return load_clip(name, device)


def _siglip(name: str, device: str) -> Backbone:
    from maxi.models.siglip import load_siglip

    return load_siglip(name, device)


def _miniature(name: str, device: str) -> Backbone:
    from maxi.models.clip import load_clip

    if name:
        raise MaxiError(f"backbone 'miniature:{name}': it takes no argument; write 'miniature'")
    return load_clip(str(resources.files("maxi") / "miniature" / "clip"), device)


def _objects(name: str, device: str) -> Backbone:
    from maxi.models.objects import load_objects

    return load_objects(name, device)


BACKBONES: dict[str, Callable[[str, str], Backbone]] = {
    "clip": _clip,
    "miniature": _miniature,
    "objects": _objects,
    "siglip": _siglip,
}
"""Name -> function of what follows the colon (or a saved folder) and the device."""


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MaxiError(
            f"device {device!r} cannot be used ({first_line(error)}); pass `cpu`"
        ) from error
