"""Load any CLIP: in Hugging Face layout from a folder, the cache or the hub, or from a file of another layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maxi.errors import MaxiError, some
from maxi.models.blocks import Packed, causal, run, up_to
from maxi.models.clip_tokenizer import clip_tokenizer, tidy
from maxi.models.foreign import CLIP_MEAN, CLIP_STD, Found, is_archive, read_archive
from maxi.models.hugging_face import (
    check_files,
    check_vocabulary,
    locate,
    model_type,
    read_tokenizer,
    reading,
)
from maxi.models.towers import (
    FIRST,
    Preprocessing,
    Towers,
    patches_of,
    read_preprocessing,
    read_towers,
)

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

DEFAULT = "openai/clip-vit-base-patch16"
"""The backbone of the paper (section 4.2)."""


class Clip(Towers):
    """A CLIP, with its two towers as trunks and its two projections as heads; see `Backbone`."""

    kind = "clip"

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """Return the class token of each frame after the last layer norm: (B * T, C, H, W) -> (B * T, F)."""
        tower = self.model.vision_model
        tokens = tower.embeddings(pixels)
        if kept is not None:
            patches = patches_of(tokens[:, 1:], kept)
            tokens = torch.cat([tokens[:, :1], patches], 1)
        tokens = self.run_frames(tower, tower.pre_layrnorm(tokens), n_frames, at=FIRST)
        pooled: Tensor = tower.post_layernorm(tokens[:, 0])
        return pooled

    def patch_embeddings(self, pixels: Tensor, *, n_frames: int = 1) -> Tensor:
        """Return every patch of each frame in the joint space, for heatmaps: (B * T, C, H, W) -> (B * T, P, D).

        Patches are normed and projected as the class token is, for which the model was trained (appendix C.1).
        """
        tower = self.model.vision_model
        tokens = self.run_frames(tower, tower.pre_layrnorm(tower.embeddings(pixels)), n_frames)
        projected: Tensor = self.model.visual_projection(tower.post_layernorm(tokens[:, 1:]))
        return projected

    def image_head(self, features: Tensor) -> Tensor:
        """Project features into the joint space: (B, F) -> (B, D)."""
        projected: Tensor = self.model.visual_projection(features)
        return projected

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the end-of-text token of each text after the last layer norm: tokens (N, L) -> (N, G)."""
        tower, ids = self.model.text_model, tokens["input_ids"]
        # Configurations from before transformers 4.31 wrongly say 2. The end of a text then is its highest id.
        end = tower.config.eos_token_id
        last = ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)
        end_tokens = self._ends_packed(ids, last) if self.packed else self._ends_padded(ids, last)
        pooled: Tensor = tower.final_layer_norm(end_tokens)
        return pooled

    def _ends_packed(self, ids: Tensor, last: Tensor) -> Tensor:
        """Return the tokens (N, W) at the positions `last` (N,), from texts that are run end to end."""
        tower, device = self.model.text_model, self.model.device
        packed = Packed.of(ids.cpu(), last.cpu() + 1)
        words = tower.embeddings.token_embedding(packed.ids.to(device))
        end_tokens = run(
            tower.encoder.layers,
            words + tower.embeddings.position_embedding(packed.positions.to(device)),
            packed.causal,
            at=packed.ends.to(device),
            attend_at=packed.at_ends,
            recompute=self.image_blocks.recompute,
        )
        return end_tokens[packed.order.argsort().to(device)]

    def _ends_padded(self, ids: Tensor, last: Tensor) -> Tensor:
        """Return the tokens (N, W) at the positions `last` (N,), from padded rows of texts."""
        tower, last = self.model.text_model, last.to(self.model.device)
        rows = torch.arange(ids.shape[0], device=last.device)
        end_tokens = run(
            tower.encoder.layers,
            tower.embeddings(input_ids=ids.to(self.model.device)),
            causal,
            at=(rows[:, None], last[:, None]),
            attend_at=up_to(last),
            recompute=self.image_blocks.recompute,
        )
        return end_tokens[:, 0]  # (N, 1, W) -> (N, W)

    def text_head(self, features: Tensor) -> Tensor:
        """Project features into the joint space: (N, G) -> (N, D)."""
        projected: Tensor = self.model.text_projection(features)
        return projected

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `input_ids` (N, L), where L is the longest text of this call, cut at the model's limit.

        No attention mask is needed: attention is causal, so that the end of a text never sees the padding after it.
        """
        return self.ids([tidy(text) for text in texts], padding=True)

    def head_parameters(self) -> list[str]:
        """Return the names of the two projections."""
        return ["model.visual_projection.weight", "model.text_projection.weight"]

    def image_processor(self) -> dict[str, Any]:
        """Return CLIP's preprocessing: the short side is resized, then the centre is cropped."""
        return {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": self.resize_to},
            "do_center_crop": True,
            "crop_size": {"height": self.image_size, "width": self.image_size},
            **super().image_processor(),
        }


def load_clip(name: str = "", device: str = "cpu") -> Clip:
    """Load a CLIP from a local folder or file, or by `ID` or `ID@REVISION` from the cache or the hub.

    A file is OpenAI's archive, a state dict, or a checkpoint of the X-CLIP family; a folder is in Hugging Face's or
    open_clip's layout. The model is in float32 and in eval mode. Raises MaxiError when it cannot be found, is not a
    CLIP, or its files are damaged or do not fit together.
    """
    from transformers import CLIPConfig, CLIPModel

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
        config = CLIPConfig.from_pretrained(folder)
        model = read_towers(folder, config, CLIPModel, where)
        tokenizer = read_tokenizer(folder)
        size = int(config.vision_config.image_size)
        preprocessing = read_preprocessing(folder, size, CLIP_MEAN, CLIP_STD)
    _check_tokenizer(model, tokenizer, where)
    return Clip(model, tokenizer, preprocessing=preprocessing).to(device).eval()


def from_archive(
    found: Found, where: str, device: str = "cpu", tokenizer: PreTrainedTokenizerBase | None = None
) -> Clip:
    """Make a CLIP from the settings and weights that were found in another layout.

    Without a `tokenizer` it gets the one of its folder, or else OpenAI's. Raises MaxiError when weights are missing,
    unexpected or of another shape, or the tokenizer does not fit.
    """
    from transformers import CLIPConfig, CLIPModel

    text_settings = found.settings["text_config"]
    with reading(where):
        if tokenizer is None and found.folder and (found.folder / "tokenizer.json").is_file():
            tokenizer = read_tokenizer(found.folder)
        tokenizer = tokenizer or clip_tokenizer()
        check_vocabulary(tokenizer, text_settings["vocab_size"], where)
        special = ("bos_token_id", "eos_token_id", "pad_token_id")
        text_settings = {**text_settings, **{name: getattr(tokenizer, name) for name in special}}
        config = CLIPConfig(**{**found.settings, "text_config": text_settings})
        model = CLIPModel(config)
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        faults = {
            "missing": sorted(shapes.keys() - found.state.keys()),
            "unexpected": sorted(found.state.keys() - shapes.keys()),
            "of another shape": sorted(
                name for name, t in found.state.items() if shapes.get(name, t.shape) != t.shape
            ),
        }
        if not any(faults.values()):
            model.load_state_dict(found.state)
    reasons = [f"{fault} {some(names)}" for fault, names in faults.items() if names]
    if reasons:
        raise MaxiError(
            f"{where}: {'; '.join(reasons)}; pass a whole model, or --base with the CLIP it was trained from"
        )
    size, stated = int(config.vision_config.image_size), found.stated
    preprocessing = Preprocessing(max(size, stated.resize_to or 0), stated.mean, stated.std)
    return Clip(model, tokenizer, preprocessing=preprocessing).to(device).eval()


def _check_tokenizer(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    text_config = model.config.text_config
    check_vocabulary(tokenizer, text_config.vocab_size, where)
    # As in `Clip.text_trunk`: 2 stands for the highest id.
    end = len(tokenizer) - 1 if text_config.eos_token_id == 2 else text_config.eos_token_id
    if tokenizer.eos_token_id != end:
        raise MaxiError(
            f"{where}: the tokenizer ends a text with id {tokenizer.eos_token_id}, but the model"
            f" looks for {end}; copy the tokenizer of the same model"
        )
