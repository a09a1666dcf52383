"""Load SigLIP and SigLIP 2 of fixed resolution, in Hugging Face layout from a folder, the cache or the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from maxi.errors import MaxiError
from maxi.models.blocks import each_row, run
from maxi.models.hugging_face import (
    check_files,
    check_vocabulary,
    locate,
    model_type,
    read_tokenizer,
    reading,
)
from maxi.models.towers import LAST, Towers, patches_of, read_preprocessing, read_towers

DEFAULT = "google/siglip2-base-patch16-224"
HALF = (0.5, 0.5, 0.5)


class Siglip(Towers):
    """A SigLIP; its heads are the last block of the image's pooling head, and the text's projection; see `Backbone`.

    SigLIP's own loss is a sigmoid over pairs with a scale and a bias. Our loss contrasts videos with a temperature of
    its own, and a bias cancels in it; so scale and bias stay in the saved file as they were.
    """

    kind = "siglip"
    fixed_length = True

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """Return what the probe of the pooling head gathers from each frame: (B * T, C, H, W) -> (B * T, F)."""
        tower = self.model.vision_model
        tokens = tower.embeddings(pixels)
        if kept is not None:
            tokens = patches_of(tokens, kept)
        tokens = tower.post_layernorm(self.run_frames(tower, tokens, n_frames))
        probe = tower.head.probe.expand(len(tokens), -1, -1)
        pooled: Tensor = tower.head.attention(probe, tokens, tokens, need_weights=False)[0][:, 0]
        return pooled

    def image_head(self, features: Tensor) -> Tensor:
        """Apply the last block of the pooling head: (B, F) -> (B, D), where D = F."""
        head = self.model.vision_model.head
        embeddings: Tensor = features + head.mlp(head.layernorm(features))
        return embeddings

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the last token of each text after the last layer norm: tokens (N, L) -> (N, G)."""
        tower = self.model.text_model
        words = tower.embeddings(input_ids=tokens["input_ids"].to(self.model.device))
        last = run(
            tower.encoder.layers, words, each_row, at=LAST, recompute=self.image_blocks.recompute
        )
        pooled: Tensor = tower.final_layer_norm(last[:, 0])
        return pooled

    def text_head(self, features: Tensor) -> Tensor:
        """Project features into the joint space: (N, G) -> (N, D)."""
        projected: Tensor = self.model.text_model.head(features)
        return projected

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `input_ids` (N, L) of the texts in lower case, padded to the model's limit L.

        SigLIP was trained with this padding and without a mask.
        """
        return self.ids([text.lower() for text in texts], padding="max_length")

    def head_parameters(self) -> list[str]:
        """Return the names of the parameters of the pooling head's last block and of the text's projection."""
        prefixes = (
            "model.vision_model.head.layernorm.",
            "model.vision_model.head.mlp.",
            "model.text_model.head.",
        )
        return [name for name, _ in self.named_parameters() if name.startswith(prefixes)]

    def image_processor(self) -> dict[str, Any]:
        """Return SigLIP's preprocessing, which squeezes an image into a square; this package crops frames instead."""
        size = {"height": self.resize_to, "width": self.resize_to}
        return {
            "image_processor_type": "SiglipImageProcessor",
            "size": size,
            **super().image_processor(),
        }


def load_siglip(name: str = "", device: str = "cpu") -> Siglip:
    """Load a SigLIP from a local folder, or by `ID` or `ID@REVISION` from the cache or the hub.

    The model is in float32 and in eval mode. Raises MaxiError when it cannot be found, is not a SigLIP of fixed
    resolution, or its files are damaged or do not fit together.
    """
    from transformers import SiglipConfig, SiglipModel

    where = f"siglip:{name or DEFAULT}"
    folder = locate(where, otherwise="--backbone objects")
    kind = model_type(folder, where)
    if kind != "siglip":
        raise MaxiError(
            f"{where} is a model of type {kind!r}; pass a SigLIP of fixed resolution with both towers"
        )
    check_files(folder, where)
    if not (folder / "tokenizer.json").is_file() and not find_spec("sentencepiece"):
        raise MaxiError(
            f'{where}: its tokenizer needs sentencepiece; run `pip install "maxi[siglip]"`'
        )
    with reading(where):
        config = SiglipConfig.from_pretrained(folder)
        model = read_towers(folder, config, SiglipModel, where)
        tokenizer = read_tokenizer(folder)
        size = int(config.vision_config.image_size)
        preprocessing = read_preprocessing(folder, size, HALF, HALF)
    check_vocabulary(tokenizer, config.text_config.vocab_size, where)
    return Siglip(model, tokenizer, preprocessing=preprocessing).to(device).eval()
