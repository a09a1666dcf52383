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
    """The transformer blocks of an image tower, and how they are to work: what training may ask of a backbone.

    There are `n` of them, and they read `n_patches` patches of a frame. The last `temporal` of them also attend to
    neighbouring frames (appendix C.4). With `recompute` the way back computes each block anew instead of keeping what
    it computed.
    """

    n: int
    n_patches: int
    temporal: int = 0
    recompute: bool = False


class Backbone(Protocol):
    """An `nn.Module` with an image and a text encoder, each split into a trunk and a small head.

    F and G are the widths of the two trunks, D that of the joint space, P the patches of a frame that
    are read. `mean` and `std` are on a scale of 0 to 1; the short side is resized to `resize_to`.
    """

    kind: str
    image_size: int
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_blocks(self) -> ImageBlocks | None:
        """The transformer blocks of the image side, or None where it has none that training may ask anything of."""

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """Everything before the head: (B * T, C, H, W) -> (B * T, F), the T = `n_frames` of a video side by side.

        `kept` (B, P) are the patches of each video's frames that are read at all. Only a backbone with `image_blocks`
        needs to heed either.
        """

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
