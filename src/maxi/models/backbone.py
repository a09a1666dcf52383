"""The protocol that every backbone follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Normalisation = Literal["model", "imagenet"]


@dataclass
class ImageBlocks:
    """The transformer blocks of an image tower, and how training wants them to work.

    There are `n` blocks, and they read `n_patches` patches of a frame. The last `temporal` blocks also attend to
    neighbouring frames (appendix C.4). With `recompute` the backward pass computes each block again instead of keeping
    its intermediate results in memory.
    """

    n: int
    n_patches: int
    temporal: int = 0
    recompute: bool = False


class Backbone(Protocol):
    """An `nn.Module` with an image and a text encoder, each split into a trunk and a small head.

    F and G are the widths of the two trunks, D is the width of the joint space, and P the number of patches of a frame
    that are read. `mean` and `std` are of pixels from 0 to 1. The short side of a frame is resized to `resize_to`.
    """

    kind: str
    image_size: int
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_blocks(self) -> ImageBlocks | None:
        """The transformer blocks of the image side, or None when it has none that training can configure."""

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """Compute the features of frames before the head: (B * T, C, H, W) -> (B * T, F).

        The T = `n_frames` frames of a video are next to each other. `kept` (B, P) holds the patches that are read of
        each video's frames; by default all are read. A backbone without `image_blocks` may ignore both.
        """

    def image_head(self, features: Tensor) -> Tensor:
        """Turn features into raw embeddings of frames: (B, F) -> (B, D)."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Apply trunk and head: (B, C, H, W) -> (B, D)."""

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Compute the features of texts before the head: tokens (N, L) -> (N, G)."""

    def text_head(self, features: Tensor) -> Tensor:
        """Turn features into raw embeddings of texts: (N, G) -> (N, D)."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Apply trunk and head: tokens (N, L) -> (N, D)."""

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return tensors (N, L), where L is the longest text of this call, cut at the model's limit."""

    def head_parameters(self) -> list[str]:
        """Return the names of the parameters of both heads."""

    def visual_parameters(self) -> list[str]:
        """Return the names of the parameters of the image side; all others belong to the text side."""

    def architecture(self) -> dict[str, Any]:
        """Return all that embeddings depend on beside weights and preprocessing: activation, heads, tokenizer, ..."""

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any weight, with the preprocessing and with the architecture."""

    def save(self, folder: str | Path) -> None:
        """Write a folder from which the loader of the same kind reads the same model back, bit for bit."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...
