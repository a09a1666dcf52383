"""Load a backbone by its name or folder; `BACKBONES` is the table of names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from maxi.errors import MaxiError, choose, first_line
from maxi.files import read_json
from maxi.models.backbone import Backbone, Normalisation
from maxi.models.saving import SETTINGS, check_finite

MAX_SIDE = 4096  # pixels
SIGMAS = (1e-4, 1e4)  # the smallest and the largest temperature with which logits stay finite

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# `module:function[:FOLDER]`, for a backbone from outside: its function, and the folder that the function loads.
_OUTSIDE = re.compile(r"(?P<function>[\w.]+:\w+)(?::(?P<folder>.+))?")


def load_backbone(
    spec: str,
    device: str = "cpu",
    *,
    normalisation: Normalisation = "model",
    resize_to: int | None = None,
) -> Backbone:
    """Load `clip:ID_OR_PATH`, `siglip:ID_OR_PATH`, `objects`, a model or run folder, or `module:function[:FOLDER]`.

    With `imagenet`, frames are normalised by ImageNet's mean and std, as in the released code, not by the model's own.
    `resize_to` is the short side of a frame before its centre is cut out, by default the model's own. Raises MaxiError
    when there is no such backbone, or it cannot be loaded or used.
    """
    _check_device(device)
    backbone = _load(spec, device)
    _check(backbone, spec)
    if resize_to and resize_to < backbone.image_size:
        raise MaxiError(
            f"{spec} reads {backbone.image_size} pixels; `resize_to` must not be below that, and is {resize_to}"
        )
    backbone.resize_to = resize_to or backbone.resize_to
    if normalisation == "imagenet":
        backbone.mean, backbone.std = IMAGENET_MEAN, IMAGENET_STD
    return backbone


def _check(backbone: Backbone, spec: str) -> None:
    """Raise MaxiError when no frame can be prepared for a backbone, or a weight is not finite."""
    check_finite(backbone, spec)
    pixels = (*backbone.mean, *backbone.std)
    if len(pixels) != 6 or not all(map(math.isfinite, pixels)) or min(backbone.std) <= 0:
        raise MaxiError(
            f"{spec}: the mean {backbone.mean} and std {backbone.std} of pixels must be three finite numbers each, "
            "std above 0; mend preprocessor_config.json or copy the model again"
        )
    if not 0 < backbone.image_size <= backbone.resize_to <= MAX_SIDE:
        raise MaxiError(
            f"{spec}: resizes frames to {backbone.resize_to} and reads {backbone.image_size} pixels, which must be "
            f"from 1 to {MAX_SIDE}; mend the model's settings or copy it again"
        )


def _load(spec: str, device: str) -> Backbone:
    name, _, argument = spec.partition(":")
    if name in BACKBONES:
        return BACKBONES[name](argument, device)
    folder = Path(os.path.expanduser(spec))
    if folder.is_dir():
        return _load_folder(folder, device)
    if folder.is_file():  # a CLIP's weights under any name
        return BACKBONES["clip"](spec, device)
    if outside := _OUTSIDE.fullmatch(spec):
        return choose(BACKBONES, outside["function"], "backbone")(outside["folder"] or "", device)
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
    """Return the backbone that a saved model's settings name; MaxiError when it is not one of the table.

    A saved model never names code to import, since models are passed from hand to hand.
    """
    settings = read_json(file)
    kind = str(settings.get("backbone")) if isinstance(settings, dict) else "nothing"
    if kind not in BACKBONES:
        raise MaxiError(
            f"{file}: names {kind!r}, not one of {', '.join(BACKBONES)}; a model of your own code"
            f" is loaded with MODULE:FUNCTION:{file.parent}"
        )
    return kind


def saved_spec(spec: str, folder: str | Path) -> str:
    """Return the spec that loads the model in `folder`, saved by a run with the backbone `spec`."""
    outside = None if spec.partition(":")[0] in BACKBONES else _OUTSIDE.fullmatch(spec)
    return f"{outside['function']}:{folder}" if outside else str(folder)


class Saved(NamedTuple):
    """The settings that `VideoCLIP.save` writes beside the backbone."""

    sigma: float | None = None
    temporal_blocks: int = 0


def saved_beside(spec: str) -> Saved:
    """Return the settings in the folder that `spec` names, or the defaults when it names none.

    Raises MaxiError when a setting has no valid value.
    """
    kind, _, place = spec.partition(":")
    if kind not in BACKBONES:  # a folder, or MODULE:FUNCTION:FOLDER
        place = spec if Path(spec).expanduser().is_dir() else place.partition(":")[2]
    for folder in (Path(place, "model"), Path(place)) if place else ():
        path = folder.expanduser() / SETTINGS
        if path.is_file():
            settings = read_json(path)
            if not isinstance(settings, dict):
                settings = {"sigma": settings}
            sigma, n_blocks = settings.get("sigma"), settings.get("temporal_blocks", 0)
            low, high = SIGMAS
            if not (sigma is None or (isinstance(sigma, float) and low <= sigma <= high)):
                raise MaxiError(
                    f"{path}: sigma is {sigma!r}, not a number from {low:g} to {high:g}; train or copy the model again"
                )
            if not (isinstance(n_blocks, int) and 0 <= n_blocks <= MAX_SIDE):
                raise MaxiError(
                    f"{path}: temporal_blocks is {n_blocks!r}; train or copy the model again"
                )
            return Saved(sigma, n_blocks)
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
        raise MaxiError(f"backbone 'miniature:{name}' takes no argument; write 'miniature'")
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
"""The functions that load a backbone, by name; they take what follows the colon (or a saved folder) and the device."""


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MaxiError(
            f"device {device!r} cannot be used ({first_line(error)}); pass `cpu`"
        ) from error
