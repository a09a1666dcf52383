"""The table of backbones, the protocol they follow, and what they share in handling weights."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from maxi.errors import MaxiError, choose
from maxi.records import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SETTINGS = "maxi.json"  # marks a saved model and holds what its weights do not

Normalisation = Literal["model", "imagenet"]

# `module:function`, and the folder after it that the function is to load.
_OWN = re.compile(r"(?P<code>[\w.]+:\w+)(?::(?P<folder>.+))?")


class Backbone(Protocol):
    """An `nn.Module` with an image and a text encoder, each split into a trunk and a small head.

    F and G are the widths of the two trunks, D that of the joint space, P the patches along one
    side. `mean` and `std` are on a scale of 0 to 1; the short side is resized to `resize_to`.
    """

    kind: str
    image_size: int
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """Everything before the head: (B, C, H, W) -> (B, F)."""

    def image_head(self, features: Tensor) -> Tensor:
        """The raw embedding of a frame: (B, F) -> (B, D)."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Trunk and head: (B, C, H, W) -> (B, D)."""

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Everything before the head: tokens (N, L) -> (N, G)."""

    def text_head(self, features: Tensor) -> Tensor:
        """The raw embedding of a text: (N, G) -> (N, D)."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Trunk and head: tokens (N, L) -> (N, D)."""

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tensors (N, L), L the longest text of this call, cut at the model's limit."""

    def patch_features(self, pixels: Tensor) -> Tensor:
        """Patches in the joint space, for heatmaps: (B, C, H, W) -> (B, P, P, D)."""

    def head_parameters(self) -> list[str]:
        """Names of the parameters of both heads."""

    def visual_parameters(self) -> list[str]:
        """Names of the parameters of the image side; the others are the text side's."""

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight and with the preprocessing."""

    def save(self, folder: str | Path) -> None:
        """Write what the loader of the same kind reads back, bit for bit."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...


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


def weights_digest(backbone: Backbone) -> str:
    """16 hex digits of the sha256 over the preprocessing and all names, shapes and weights."""
    import torch

    sizes = (backbone.kind, backbone.image_size, backbone.resize_to)
    sha = hashlib.sha256(repr((*sizes, backbone.mean, backbone.std)).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


@contextmanager
def staging(folder: str | Path) -> Iterator[Path]:
    """A temporary folder whose files move into `folder`, each at once, when all are written.

    Raises MaxiError when the disk is full; what was in `folder` stays.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as part:
        try:
            yield Path(part)
        except SafetensorError as error:  # its own type, also for a full disk
            raise MaxiError(
                f"{folder}: the model cannot be written ({first_line(error)});"
                " make room, then add --resume"
            ) from error
        for file in sorted(Path(part).iterdir()):
            file.chmod(0o644)  # safetensors writes files that only their owner can read
            file.replace(folder / file.name)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' reports and bars off the terminal; what matters is raised as MaxiError."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type when it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def some(names: Sequence[str], n: int = 4) -> str:
    """The first few names of a list, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MaxiError(
            f"device {device!r} cannot be used ({first_line(error)}); pass `cpu`"
        ) from error
