"""What the two-tower models of transformers, CLIP and SigLIP, share as backbones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from maxi.errors import MaxiError
from maxi.files import digest, read_json, write_json
from maxi.models.backbone import ImageBlocks
from maxi.models.blocks import across_frames, each_row, run
from maxi.models.hugging_face import check_report, quiet_transformers
from maxi.models.saving import staging, weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FIRST, LAST = (slice(None), slice(0, 1)), (slice(None), slice(-1, None))
"""Of rows of tokens (B, L, W): the first of each, the last of each."""


class Preprocessing(NamedTuple):
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Towers(nn.Module, ABC):
    """An image tower and a text tower of one model of transformers; see `Backbone`."""

    kind: str
    fixed_length = False  # whether every text has the model's full number of tokens
    packed = True  # texts end to end where the model allows it; an export, which knows no lengths, wants them padded

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, *, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        # Buffers stay in the file, but are no parameters: training has a temperature of its own.
        for name in ("logit_scale", "logit_bias"):
            if (value := getattr(model, name, None)) is not None:
                delattr(model, name)
                model.register_buffer(name, value.detach().clone())
        self.model = model
        self.tokenizer = tokenizer
        vision = model.config.vision_config
        self.image_size = int(vision.image_size)
        n_patches = (self.image_size // int(vision.patch_size)) ** 2
        self.image_blocks = ImageBlocks(int(vision.num_hidden_layers), n_patches)
        self.resize_to, self.mean, self.std = preprocessing

    @abstractmethod
    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """(B * T, C, H, W) -> (B * T, F), the T = `n_frames` frames of a video next to each other.

        Frames meet in the last temporal blocks alone. `kept` (B, P) are the patches of each video's frames
        that are read at all (patch dropout).
        """

    @abstractmethod
    def image_head(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        return self.image_head(self.image_trunk(pixels))

    @abstractmethod
    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, G)."""

    @abstractmethod
    def text_head(self, features: Tensor) -> Tensor:
        """(N, G) -> (N, D)."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, D)."""
        return self.text_head(self.text_trunk(tokens))

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tensors (N, L)."""

    @abstractmethod
    def head_parameters(self) -> list[str]:
        """Names of the parameters of both heads."""

    def run_frames(self, tower: Any, tokens: Tensor, n_frames: int, at: Any = None) -> Tensor:
        """Tokens (B * T, L, W) through the image tower's blocks; see `blocks.run`."""
        blocks = list(tower.encoder.layers)
        temporal, recompute = self.image_blocks.temporal, self.image_blocks.recompute
        whole = {"at": at, "recompute": recompute}
        if not temporal:
            return run(blocks, tokens, each_row, **whole)
        apart = len(blocks) - temporal
        tokens = run(blocks[:apart], tokens, each_row, recompute=recompute)
        return run(blocks[apart:], tokens, across_frames(n_frames), **whole)

    def ids(self, texts: Sequence[str], padding: bool | str) -> dict[str, Tensor]:
        """`input_ids` (N, L) of texts, cut at the model's limit."""
        encoded = self.tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            split_special_tokens=True,  # a text may not end itself
            max_length=self.max_length,
            return_tensors="pt",
        )
        return {"input_ids": encoded["input_ids"]}

    @property
    def max_length(self) -> int:
        """Tokens of the longest text that the model reads."""
        return int(self.model.config.text_config.max_position_embeddings)

    def visual_parameters(self) -> list[str]:
        """Names of the vision tower's parameters and of its projection."""
        sides = ("model.vision_model.", "model.visual_projection.")
        return [name for name, _ in self.named_parameters() if name.startswith(sides)]

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight, with the preprocessing and with temporal attention."""
        own = weights_digest(self)
        return digest(own, self.image_blocks.temporal) if self.image_blocks.temporal else own

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face folder: safetensors, json and the tokenizer."""
        with staging(folder) as part, quiet_transformers():
            self.model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
            write_json(part / "preprocessor_config.json", self.image_processor())

    def image_processor(self) -> dict[str, Any]:
        """What other readers of the folder are to do with an image."""
        return {
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def patches_of(tokens: Tensor, kept: Tensor) -> Tensor:
    """Tokens (B * T, L, W), of each video's frames those at `kept` (B, P) -> (B * T, P, W)."""
    n_frames = len(tokens) // len(kept)
    index = kept.repeat_interleave(n_frames, 0)[:, :, None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index)


def read_towers(folder: Path, config: Any, kind: Any, where: str) -> Any:
    """The model of class `kind` in a folder, float32, no dropout; MaxiError lists weights that do not fit."""
    for tower in (config.text_config, config.vision_config):
        tower.attention_dropout = 0.0
    model, report = kind.from_pretrained(
        folder,
        config=config,
        weights_only=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    check_report(report, where)
    return model


def read_preprocessing(
    folder: Path, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocessing:
    """How a folder's files say that images are prepared; `mean` and `std` where they do not."""
    settings: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():  # where transformers 5 puts it
        settings = read_json(folder / "processor_config.json").get("image_processor", {})
    size = settings.get("size", image_size)
    crop = settings.get("crop_size") or image_size
    resize_to = size if isinstance(size, int) else _side(size, image_size)
    crop_to = crop if isinstance(crop, int) else crop["height"]
    if crop_to != image_size or resize_to < image_size:
        raise MaxiError(
            f"{folder}: the preprocessing resizes to {resize_to} and crops to {crop_to} pixels, but"
            f" the model reads {image_size}; mend preprocessor_config.json"
        )
    mean, std = settings.get("image_mean", mean), settings.get("image_std", std)
    return Preprocessing(resize_to, tuple(map(float, mean)), tuple(map(float, std)))


def _side(size: Mapping[str, int], otherwise: int) -> int:
    return int(size.get("shortest_edge", size.get("height", otherwise)))
