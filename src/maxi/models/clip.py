"""Any CLIP: in Hugging Face layout from a folder, the cache or the hub, or a file of another layout."""

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
"""The backbone of the paper (Sec. 4.2)."""


class Clip(Towers):
    """CLIP's two towers as trunks and its two projections as heads; see `Backbone`."""

    kind = "clip"

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """(B * T, C, H, W) -> (B * T, F): the class token after the last layer norm; see `Towers`."""
        tower = self.model.vision_model
        tokens = tower.embeddings(pixels)
        if kept is not None:
            patches = patches_of(tokens[:, 1:], kept)
            tokens = torch.cat([tokens[:, :1], patches], 1)
        tokens = self.run_frames(tower, tower.pre_layrnorm(tokens), n_frames, at=FIRST)
        pooled: Tensor = tower.post_layernorm(tokens[:, 0])
        return pooled

    def image_head(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        projected: Tensor = self.model.visual_projection(features)
        return projected

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, G): the end-of-text token after the last layer norm."""
        tower, ids = self.model.text_model, tokens["input_ids"]
        # Configurations from before transformers 4.31 say 2; then the highest id of a text is its end.
        end = tower.config.eos_token_id
        last = ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)
        ends = self._ends_packed(ids, last) if self.packed else self._ends_padded(ids, last)
        pooled: Tensor = tower.final_layer_norm(ends)
        return pooled

    def _ends_packed(self, ids: Tensor, last: Tensor) -> Tensor:
        tower, device = self.model.text_model, self.model.device
        packed = Packed.of(ids.cpu(), last.cpu() + 1)
        words = tower.embeddings.token_embedding(packed.ids.to(device))
        ends = run(
            tower.encoder.layers,
            words + tower.embeddings.position_embedding(packed.positions.to(device)),
            packed.causal,
            at=packed.ends.to(device),
            attend_at=packed.at_ends,
            recompute=self.image_blocks.recompute,
        )
        return ends[packed.order.argsort().to(device)]

    def _ends_padded(self, ids: Tensor, last: Tensor) -> Tensor:
        tower, last = self.model.text_model, last.to(self.model.device)
        words = tower.embeddings(input_ids=ids.to(self.model.device))
        at = torch.arange(ids.shape[0], device=last.device)[:, None], last[:, None]
        return run(
            tower.encoder.layers,
            words,
            causal,
            at=at,
            attend_at=up_to(last),
            recompute=self.image_blocks.recompute,
        )[:, 0]

    def text_head(self, features: Tensor) -> Tensor:
        """(N, G) -> (N, D)."""
        projected: Tensor = self.model.text_projection(features)
        return projected

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` (N, L), L the longest text of this call, cut at the model's limit.

        No attention mask: attention is causal, so the end of a text never sees padding after it.
        """
        return self.ids([tidy(text) for text in texts], padding=True)

    def head_parameters(self) -> list[str]:
        """Names of the two projections."""
        return ["model.visual_projection.weight", "model.text_projection.weight"]

    def image_processor(self) -> dict[str, Any]:
        """CLIP's: the short side resized, then the centre cropped."""
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
    open_clip's layout. In float32 and eval mode. Raises MaxiError when it cannot be found, is not a CLIP, or its files
    are damaged or do not fit together.
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


def _check_tokenizer(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    text = model.config.text_config
    check_vocabulary(tokenizer, text.vocab_size, where)
    end = len(tokenizer) - 1 if text.eos_token_id == 2 else text.eos_token_id
    if tokenizer.eos_token_id != end:
        raise MaxiError(
            f"{where}: the tokenizer ends a text with id {tokenizer.eos_token_id}, but the model"
            f" looks for {end}; copy the tokenizer of the same model"
        )
