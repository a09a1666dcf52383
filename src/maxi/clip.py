"""Any CLIP: in Hugging Face layout from a folder, the cache or the hub, or a file of another layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from maxi.archives import CLIP_MEAN, CLIP_STD, Found, is_archive, read_archive
from maxi.backbones import quiet_transformers, some, staging, weights_digest
from maxi.bpe import clip_tokenizer, tidy
from maxi.errors import MaxiError
from maxi.hub import (
    check_files,
    check_report,
    check_vocabulary,
    locate,
    model_type,
    read_tokenizer,
    reading,
)
from maxi.records import read_json, write_json

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

DEFAULT = "openai/clip-vit-base-patch16"
"""The backbone of the paper (Sec. 4.2)."""


class Preprocessing(NamedTuple):
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Clip(nn.Module):
    """CLIP's two towers as trunks and its two projections as heads; see `Backbone`."""

    kind = "clip"

    def __init__(
        self, model: CLIPModel, tokenizer: PreTrainedTokenizerBase, *, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        # A buffer stays in the file, but is no parameter: training has a temperature of its own.
        scale = model.logit_scale.detach().clone()
        del model.logit_scale
        model.register_buffer("logit_scale", scale)
        self.model = model
        self.tokenizer = tokenizer
        self.image_size = int(model.config.vision_config.image_size)
        self.resize_to, self.mean, self.std = preprocessing

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F): the class token after the last layer norm."""
        pooled: Tensor = self.model.vision_model(pixel_values=pixels).pooler_output
        return pooled

    def image_head(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        projected: Tensor = self.model.visual_projection(features)
        return projected

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        return self.image_head(self.image_trunk(pixels))

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, G): the end-of-text token after the last layer norm."""
        pooled: Tensor = self.model.text_model(
            input_ids=tokens["input_ids"].to(self.model.device)
        ).pooler_output
        return pooled

    def text_head(self, features: Tensor) -> Tensor:
        """(N, G) -> (N, D)."""
        projected: Tensor = self.model.text_projection(features)
        return projected

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, D)."""
        return self.text_head(self.text_trunk(tokens))

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` (N, L), L the longest text of this call, cut at the model's limit.

        No attention mask: attention is causal, so the end of a text never sees padding after it.
        """
        encoded = self.tokenizer(
            [tidy(text) for text in texts],
            padding=True,
            truncation=True,
            split_special_tokens=True,  # a text may not end itself
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        return {"input_ids": encoded["input_ids"]}

    def patch_features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, P, P, D): patches through the class token's last steps (App. C.1)."""
        tower = self.model.vision_model
        patches = self.image_head(
            tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state[:, 1:])
        )
        n_side = math.isqrt(patches.shape[1])
        # (B, P * P, D) -> (B, P, P, D)
        return patches.reshape(-1, n_side, n_side, patches.shape[-1])

    def head_parameters(self) -> list[str]:
        """Names of the two projections."""
        return ["model.visual_projection.weight", "model.text_projection.weight"]

    def visual_parameters(self) -> list[str]:
        """Names of the vision tower's parameters and of its projection."""
        sides = ("model.vision_model.", "model.visual_projection.")
        return [name for name, _ in self.named_parameters() if name.startswith(sides)]

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight and with the preprocessing."""
        return weights_digest(self)

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face CLIPModel folder: safetensors, json and the tokenizer."""
        with staging(folder) as part, quiet_transformers():
            self.model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
            write_json(part / "preprocessor_config.json", self._image_processor())

    def _image_processor(self) -> dict[str, Any]:
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.resize_to},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": self.image_size, "width": self.image_size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def load_clip(name: str = "", device: str = "cpu") -> Clip:
    """Load a CLIP from a local folder or file, or by `ID` or `ID@REVISION` from the cache or the hub.

    A file is OpenAI's archive, a state dict, or a checkpoint of the X-CLIP family; a folder is in Hugging Face's or
    open_clip's layout. In float32 and eval mode. Raises MaxiError when it cannot be found, is not a CLIP, or its files
    are damaged or do not fit together.
    """
    where = f"clip:{name or DEFAULT}"
    path = Path(name).expanduser()
    if name and is_archive(path):
        return from_archive(read_archive(path, where), where, device)
    folder = locate(where, otherwise="--backbone objects")
    kind = model_type(folder, where)
    if kind != "clip":
        raise MaxiError(f"{where} is a model of type {kind!r}; pass a CLIP with both towers")
    check_files(folder, where)
    with reading(where):
        model, report = _read_model(folder, device)
        tokenizer = read_tokenizer(folder)
        preprocessing = _read_preprocessing(folder, int(model.config.vision_config.image_size))
    check_report(report, where)
    _check_tokenizer(model, tokenizer, where)
    return Clip(model, tokenizer, preprocessing=preprocessing).to(device).eval()


def from_archive(
    found: Found, where: str, device: str = "cpu", tokenizer: PreTrainedTokenizerBase | None = None
) -> Clip:
    """A CLIP from what was read of another layout; without a tokenizer, its own or OpenAI's."""
    from transformers import CLIPConfig, CLIPModel

    size = found.settings["text_config"]["vocab_size"]
    with reading(where):
        if tokenizer is None and found.folder and (found.folder / "tokenizer.json").is_file():
            tokenizer = read_tokenizer(found.folder)
        tokenizer = tokenizer or clip_tokenizer()
        check_vocabulary(tokenizer, size, where)
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        text = {**found.settings["text_config"], **{k: getattr(tokenizer, k) for k in ids}}
        config = CLIPConfig(**{**found.settings, "text_config": text})
        config._attn_implementation = _attention(config, device)
        model = CLIPModel(config)
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        faults = {
            "missing": sorted(wanted.keys() - found.state.keys()),
            "unexpected": sorted(found.state.keys() - wanted.keys()),
            "of another shape": sorted(
                name for name, t in found.state.items() if wanted.get(name, t.shape) != t.shape
            ),
        }
        if not any(faults.values()):
            model.load_state_dict(found.state)
    told = [f"{what} {some(names)}" for what, names in faults.items() if names]
    if told:
        raise MaxiError(
            f"{where}: {'; '.join(told)}; pass a whole model, or --base with the CLIP it was trained from"
        )
    preprocessing = Preprocessing(config.vision_config.image_size, found.mean, found.std)
    return Clip(model, tokenizer, preprocessing=preprocessing).to(device).eval()


def _attention(config: Any, device: str) -> str:
    """Fused attention, but on a CPU for a few tokens, where plain products are up to twice as fast."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    return "eager" if device == "cpu" and side * side <= 64 else "sdpa"


def _read_model(folder: Path, device: str) -> tuple[CLIPModel, dict[str, Any]]:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig.from_pretrained(folder)
    for tower in (config.text_config, config.vision_config):
        tower.attention_dropout = 0.0
    model, report = CLIPModel.from_pretrained(
        folder,
        config=config,
        weights_only=True,
        local_files_only=True,
        attn_implementation=_attention(config, device),
        dtype=torch.float32,
        output_loading_info=True,
    )
    return model, report


def _read_preprocessing(folder: Path, image_size: int) -> Preprocessing:
    settings: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():  # where transformers 5 puts it
        settings = read_json(folder / "processor_config.json").get("image_processor", {})
    size, crop = settings.get("size", image_size), settings.get("crop_size", image_size)
    resize_to = size if isinstance(size, int) else size.get("shortest_edge", image_size)
    crop_to = crop if isinstance(crop, int) else crop["height"]
    if crop_to != image_size or resize_to < image_size:
        raise MaxiError(
            f"{folder}: the preprocessing resizes to {resize_to} and crops to {crop_to} pixels, but"
            f" the model reads {image_size}; mend preprocessor_config.json"
        )
    mean, std = settings.get("image_mean", CLIP_MEAN), settings.get("image_std", CLIP_STD)
    return Preprocessing(resize_to, tuple(map(float, mean)), tuple(map(float, std)))


def _check_tokenizer(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    text = model.config.text_config
    check_vocabulary(tokenizer, text.vocab_size, where)
    # Configurations from before transformers 4.31 say 2; then the highest id of a text is its end.
    end = len(tokenizer) - 1 if text.eos_token_id == 2 else text.eos_token_id
    if tokenizer.eos_token_id != end:
        raise MaxiError(
            f"{where}: the tokenizer ends a text with id {tokenizer.eos_token_id}, but the model"
            f" looks for {end}; copy the tokenizer of the same model"
        )
