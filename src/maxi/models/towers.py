"""The common part of the backbones CLIP and SigLIP, the two-tower models of transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from maxi.errors import MaxiError
from maxi.files import read_json, write_json
from maxi.models.backbone import ImageBlocks
from maxi.models.blocks import across_frames, each_row, run
from maxi.models.hugging_face import (
    check_report,
    quiet_transformers,
    refuse_whole_numbers,
    tell_cut,
)
from maxi.models.saving import staging, weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FIRST, LAST = (slice(None), slice(0, 1)), (slice(None), slice(-1, None))
"""The indices of the first and of the last token of each row, in tokens (B, L, W)."""


STATED = (
    "hidden_act",
    "num_attention_heads",
    "layer_norm_eps",
    "patch_size",
    "image_size",
    "max_position_embeddings",
    "eos_token_id",
    "vision_use_head",
)
"""The settings of a tower on which embeddings depend, and which the shapes of weights do not show."""

PROBES = ("Ready, steady: it's 10 to 9!", "ÉCLAIR  naïve 武術 🤸", "<|endoftext|> </s> a_b-c")
"""Texts that tokenizers of different settings split differently."""


class Preprocessing(NamedTuple):
    """The length to which the short side is resized, and the mean and std that normalise pixels from 0 to 1."""

    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Towers(nn.Module, ABC):
    """An image tower and a text tower of one model of transformers; see `Backbone`."""

    kind: str
    fixed_length = False  # whether every text has the model's full number of tokens
    packed = True  # whether texts may be run end to end; an export knows no lengths, and needs them padded

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, *, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        # Training has its own temperature, so these become buffers: they are saved, but do not learn.
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
        """Compute the features of frames before the head: (B * T, C, H, W) -> (B * T, F).

        The T = `n_frames` frames of a video are next to each other, and attend to each other only in the last
        `temporal` blocks. `kept` (B, P) holds the patches that are read of each video's frames (patch dropout).
        """

    @abstractmethod
    def image_head(self, features: Tensor) -> Tensor:
        """Turn features into raw embeddings of frames: (B, F) -> (B, D)."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Apply trunk and head: (B, C, H, W) -> (B, D)."""
        return self.image_head(self.image_trunk(pixels))

    @abstractmethod
    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Compute the features of texts before the head: tokens (N, L) -> (N, G)."""

    @abstractmethod
    def text_head(self, features: Tensor) -> Tensor:
        """Turn features into raw embeddings of texts: (N, G) -> (N, D)."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Apply trunk and head: tokens (N, L) -> (N, D)."""
        return self.text_head(self.text_trunk(tokens))

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens of N texts, as tensors (N, L)."""

    @abstractmethod
    def head_parameters(self) -> list[str]:
        """Return the names of the parameters of both heads."""

    def run_frames(self, tower: Any, tokens: Tensor, n_frames: int, at: Any = None) -> Tensor:
        """Run the tokens (B * T, L, W) of frames through the image tower's blocks; see `blocks.run`."""
        blocks = list(tower.encoder.layers)
        temporal, recompute = self.image_blocks.temporal, self.image_blocks.recompute
        if not temporal:
            return run(blocks, tokens, each_row, at=at, recompute=recompute)
        n_spatial = len(blocks) - temporal
        tokens = run(blocks[:n_spatial], tokens, each_row, recompute=recompute)
        attend = across_frames(n_frames)
        return run(blocks[n_spatial:], tokens, attend, at=at, recompute=recompute)

    def ids(self, texts: Sequence[str], padding: bool | str) -> dict[str, Tensor]:
        """Return the `input_ids` (N, L) of texts, cut at the model's limit."""
        encoded = self.tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            split_special_tokens=True,  # a text that contains an end token must not end there
            max_length=self.max_length,
            return_tensors="pt",
        )
        tell_cut(texts, encoded.encodings, self.max_length)
        return {"input_ids": encoded["input_ids"]}

    @property
    def max_length(self) -> int:
        """The number of tokens of the longest text that the model reads."""
        return int(self.model.config.text_config.max_position_embeddings)

    def visual_parameters(self) -> list[str]:
        """Return the names of the image tower's parameters and of its projection."""
        prefixes = ("model.vision_model.", "model.visual_projection.")
        return [name for name, _ in self.named_parameters() if name.startswith(prefixes)]

    def architecture(self) -> dict[str, Any]:
        """Return the settings of both towers that weights do not show, temporal attention, and the tokenizer.

        The tokenizer is its vocabulary, and the tokens of a few texts, which show how it splits them.
        """
        config = self.model.config
        towers = {"vision": config.vision_config, "text": config.text_config}
        return {
            **{
                f"{tower}.{name}": getattr(settings, name)
                for tower, settings in towers.items()
                for name in STATED
                if hasattr(settings, name)
            },
            "temporal": self.image_blocks.temporal,
            "vocabulary": sorted(self.tokenizer.get_vocab().items()),
            "tokens": [self.tokenize([text])["input_ids"].tolist() for text in PROBES],
        }

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any weight, with the preprocessing and with the architecture."""
        return weights_digest(self)

    def save(self, folder: str | Path) -> None:
        """Write a folder in Hugging Face layout: safetensors, json and the tokenizer."""
        with staging(folder) as part, quiet_transformers():
            self.model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
            write_json(part / "preprocessor_config.json", self.image_processor())

    def image_processor(self) -> dict[str, Any]:
        """Return the preprocessing of images, as other readers of the folder expect it."""
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
    """Return the tokens at `kept` (B, P) of each video's frames: (B * T, L, W) -> (B * T, P, W)."""
    n_frames = len(tokens) // len(kept)
    index = kept.repeat_interleave(n_frames, 0)[:, :, None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index)


def read_towers(folder: Path, config: Any, kind: Any, where: str) -> Any:
    """Read a model of class `kind` from a folder, in float32 and without dropout.

    Raises MaxiError that lists the weights when some are missing or unexpected.
    """
    refuse_whole_numbers(folder, where)
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
    """Return the preprocessing that a folder's files state; `mean` and `std` are used where they state none.

    Raises MaxiError when it makes images of another size than the model reads.
    """
    settings: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():  # transformers 5 writes this file instead
        settings = read_json(folder / "processor_config.json").get("image_processor", {})
    size = settings.get("size", image_size)
    crop_size = settings.get("crop_size") or image_size
    resize_to = size if isinstance(size, int) else _short_side(size, image_size)
    crop_to = crop_size if isinstance(crop_size, int) else crop_size["height"]
    if crop_to != image_size or resize_to < image_size:
        raise MaxiError(
            f"{folder}: the preprocessing resizes to {resize_to} and crops to {crop_to} pixels, but"
            f" the model reads {image_size}; mend preprocessor_config.json"
        )
    mean, std = settings.get("image_mean", mean), settings.get("image_std", std)
    return Preprocessing(resize_to, tuple(map(float, mean)), tuple(map(float, std)))


def _short_side(size: Mapping[str, int], otherwise: int) -> int:
    return int(size.get("shortest_edge", size.get("height", otherwise)))
