"""Any CLIP: in Hugging Face layout from a folder, the cache or the hub, or a file of another layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maxi.archives import CLIP_MEAN, CLIP_STD, Found, is_archive, read_archive
from maxi.backbones import some
from maxi.bpe import clip_tokenizer, tidy
from maxi.errors import MaxiError
from maxi.hub import check_files, check_vocabulary, locate, model_type, read_tokenizer, reading
from maxi.towers import Preprocessing, Towers, read_preprocessing, read_towers, square

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

DEFAULT = "openai/clip-vit-base-patch16"
"""The backbone of the paper (Sec. 4.2)."""


class Clip(Towers):
    """CLIP's two towers as trunks and its two projections as heads; see `Backbone`."""

    kind = "clip"

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F): the class token after the last layer norm."""
        tower = self.model.vision_model
        tokens = tower.pre_layrnorm(tower.embeddings(pixels))
        first = tokens.new_zeros(tokens.shape[0], dtype=torch.long)
        pooled: Tensor = tower.post_layernorm(_encode_at(tower.encoder, tokens, first))
        return pooled

    def image_head(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        projected: Tensor = self.model.visual_projection(features)
        return projected

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, L) -> (N, G): the end-of-text token after the last layer norm."""
        from transformers.masking_utils import create_causal_mask

        tower, ids = self.model.text_model, tokens["input_ids"].to(self.model.device)
        words = tower.embeddings(input_ids=ids)
        mask = create_causal_mask(tower.config, words, attention_mask=None, past_key_values=None)
        # Configurations from before transformers 4.31 say 2; then the highest id of a text is its end.
        end = tower.config.eos_token_id
        last = ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)
        pooled: Tensor = tower.final_layer_norm(
            _encode_at(tower.encoder, words, last, mask, causal=True)
        )
        return pooled

    def text_head(self, features: Tensor) -> Tensor:
        """(N, G) -> (N, D)."""
        projected: Tensor = self.model.text_projection(features)
        return projected

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` (N, L), L the longest text of this call, cut at the model's limit.

        No attention mask: attention is causal, so the end of a text never sees padding after it.
        """
        return self.ids([tidy(text) for text in texts], padding=True)

    def patch_features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, P, P, D): patches through the class token's last steps (App. C.1)."""
        tower = self.model.vision_model
        patches = self.image_head(
            tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state[:, 1:])
        )
        return square(patches)

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


def _encode_at(
    encoder: Any, tokens: Tensor, at: Tensor, mask: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """Tokens (B, L, W) -> the encoder's output (B, W) at one place of each row, which alone the last block computes."""
    *blocks, last = encoder.layers
    for block in blocks:
        tokens = block(tokens, mask, is_causal=causal)
    rows = torch.arange(tokens.shape[0], device=tokens.device)
    attention: Any = last.self_attn
    normed: Tensor = last.layer_norm1(tokens)

    def heads(x: Tensor) -> Tensor:
        # (B, L, W) -> (B, H, L, W / H)
        split: Tensor = x.unflatten(-1, (attention.num_heads, attention.head_dim))
        return split.transpose(1, 2)

    # A place sees itself and those before it: (B, 1, 1, L).
    seen = torch.arange(tokens.shape[1], device=at.device) <= at[:, None] if causal else None
    mixed = F.scaled_dot_product_attention(
        heads(attention.q_proj(normed[rows, at])[:, None]),
        heads(attention.k_proj(normed)),
        heads(attention.v_proj(normed)),
        attn_mask=None if seen is None else seen[:, None, None],
    )
    token = tokens[rows, at] + attention.out_proj(mixed.flatten(1))
    out: Tensor = token + last.mlp(last.layer_norm2(token))
    return out


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
        model = read_towers(folder, config, CLIPModel, where, _attention(config, device))
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


def _check_tokenizer(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    text = model.config.text_config
    check_vocabulary(tokenizer, text.vocab_size, where)
    end = len(tokenizer) - 1 if text.eos_token_id == 2 else text.eos_token_id
    if tokenizer.eos_token_id != end:
        raise MaxiError(
            f"{where}: the tokenizer ends a text with id {tokenizer.eos_token_id}, but the model"
            f" looks for {end}; copy the tokenizer of the same model"
        )
