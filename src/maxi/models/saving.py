"""Write a model completely or not at all, and compute a digest that changes with its weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from maxi.errors import MaxiError, first_line
from maxi.files import digest
from maxi.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = ".saving-"  # of the folder in which the files are written
SETTINGS = "maxi.json"  # marks a saved model, and holds the settings that its other files do not


def weights_digest(backbone: Backbone, without: Iterable[str] = ()) -> str:
    """Return 16 hex digits that change with everything on which embeddings depend.

    These are the preprocessing, the architecture with the tokenizer, and all names, shapes and weights, but for the
    weights `without`.
    """
    left_out = set(without)
    sizes = (backbone.kind, backbone.image_size, backbone.resize_to, backbone.mean, backbone.std)
    state = {name: t for name, t in backbone.state_dict().items() if name not in left_out}
    return tensors_digest(state, digest(sizes, backbone.architecture()))


def tensors_digest(tensors: Mapping[str, Tensor], more: str = "") -> str:
    """Return 16 hex digits that change with all names, shapes and values of tensors, and with `more`."""
    import torch

    sha = hashlib.sha256(more.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        sha.update(values)
    return sha.hexdigest()[:16]


def check_finite(backbone: Backbone, where: str) -> None:
    """Raise MaxiError when a weight is NaN or infinite; `where` names the model."""
    import torch

    for name, tensor in backbone.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise MaxiError(
                f"{where}: the weight {name} is not finite; train again with a lower `train.lr`, or copy the model"
            )


@contextmanager
def staging(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, and move its files into `folder` when all of them are written.

    Raises MaxiError when the disk is full; then the files in `folder` stay as they were.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{PREFIX}*"):  # of a save that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=PREFIX, dir=folder) as part:
        try:
            yield Path(part)
        except SafetensorError as error:  # safetensors raises it for a full disk as well
            raise MaxiError(
                f"{folder}: the model cannot be written ({first_line(error)});"
                " make room, then add --resume"
            ) from error
        for file in sorted(Path(part).iterdir()):
            file.chmod(0o644)  # only the owner can read the files that safetensors writes
            file.replace(folder / file.name)
