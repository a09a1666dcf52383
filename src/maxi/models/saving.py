"""Write a model completely or not at all, and compute a digest that changes with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from maxi.errors import MaxiError, first_line
from maxi.models.backbone import Backbone

SETTINGS = "maxi.json"  # marks a saved model, and holds the settings that its other files do not


def weights_digest(backbone: Backbone) -> str:
    """Return 16 hex digits of the sha256 of the preprocessing and of all names, shapes and weights."""
    import torch

    sizes = (backbone.kind, backbone.image_size, backbone.resize_to)
    sha = hashlib.sha256(repr((*sizes, backbone.mean, backbone.std)).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


@contextmanager
def staging(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, and move its files into `folder` when all of them are written.

    Raises MaxiError when the disk is full; then the files in `folder` stay as they were.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as part:
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
