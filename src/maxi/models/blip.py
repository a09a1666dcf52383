"""`blip`: describe frames one by one with a captioning model of transformers, such as BLIP (section 3.2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from maxi.errors import MaxiError, first_line, is_own_mistake
from maxi.models.hugging_face import (
    SAFELY,
    check_files,
    check_report,
    check_vocabulary,
    locate,
    model_type,
    quiet_transformers,
    read_tokenizer,
    reading,
)

DEFAULT = "Salesforce/blip-image-captioning-large"
"""ViT-L/16 at 384 pixels, as in the paper (appendix B)."""

MAX_NEW_TOKENS = 30
PROMPT = "a picture of"

PREPROCESSING_FILES = ("preprocessor_config.json", "processor_config.json")

# Frames are nearly equal when their 16 x 16 grey values, from 0 to 255, differ by less than this on average. Frames of
# a still picture differ by 0.1 to 0.2, those of the slowest actions by 0.3.
NEAR = 0.25


@dataclass(frozen=True)
class Blip:
    """A captioning model with its own preprocessing; it decodes greedily, so that equal frames get equal captions.

    `prompt` holds the tokens with which a caption begins, and an end token; it is empty for a model that needs none.
    """

    model: Any
    processor: Any
    tokenizer: Any
    prompt: list[int]

    @property
    def text_config(self) -> Any:
        """The settings of the model's text decoder."""
        return self.model.config.get_text_config(decoder=True)

    def caption(self, frames: NDArray[np.uint8]) -> list[str]:
        """Caption frames, uint8 (T, H, W, 3): T captions; a frame nearly equal to an earlier one gets its caption."""
        return self.caption_all([frames])[0]

    def caption_all(self, videos: Sequence[NDArray[np.uint8]]) -> list[list[str]]:
        """Caption the frames of several videos in one batch, each as `caption` does."""
        return once_per_picture(videos, self.describe)

    @torch.inference_mode()
    def describe(self, frames: Sequence[NDArray[np.uint8]]) -> list[str]:
        """Caption each of these frames, uint8 (H, W, 3), in one batch, also those that are equal."""
        images = [Image.fromarray(frame) for frame in frames]
        n_prompt = max(0, len(self.prompt) - 1)  # BLIP leaves out the end token of the prompt
        prompts = torch.tensor([self.prompt] * len(images), device=self.model.device)
        inputs = {"input_ids": prompts} if self.prompt else {}
        max_length = getattr(self.text_config, "max_position_embeddings", sys.maxsize)
        with quiet_transformers():
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
            tokens = self.model.generate(
                pixel_values=pixels.to(self.model.device, self.model.dtype),
                max_new_tokens=min(MAX_NEW_TOKENS, max_length - max(1, n_prompt)),
                do_sample=False,
                num_beams=1,
                **inputs,
            )[:, n_prompt:]
            captions: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return captions


def once_per_picture(
    videos: Sequence[NDArray[np.uint8]],
    describe: Callable[[Sequence[NDArray[np.uint8]]], list[str]],
) -> list[list[str]]:
    """Return the captions of all frames of some videos, each (T, H, W, 3); nearly equal frames are described once.

    `describe` is called once, with the distinct frames of all videos.
    """
    sources = [nearly_equal(frames) for frames in videos]
    distinct = [(i, t) for i, frames in enumerate(sources) for t in sorted(set(frames))]
    texts = describe([videos[i][t] for i, t in distinct])
    captions = dict(zip(distinct, texts, strict=True))
    return [[captions[i, t] for t in frames] for i, frames in enumerate(sources)]


def nearly_equal(frames: NDArray[np.uint8]) -> list[int]:
    """Return for each frame (T, H, W, 3) the index of the frame whose caption it gets.

    This is the frame itself, or the last described frame before it when the two are nearly equal.
    """
    sources: list[int] = []
    described = None
    for t, frame in enumerate(frames):
        small = Image.fromarray(frame).convert("L").resize((16, 16), Image.Resampling.BOX)
        grey = np.asarray(small, np.int16)
        if described is not None and np.abs(grey - described).mean() < NEAR:
            sources.append(sources[-1])
        else:
            sources.append(t)
            described = grey
    return sources


def find_blip(name: str = "") -> Path:
    """Return the folder of a captioner: `miniature`, a local folder, or `ID` or `ID@REVISION` of the hub.

    `miniature` is part of the package. Raises MaxiError when the captioner cannot be found.
    """
    if name == "miniature":
        return Path(str(resources.files("maxi") / "miniature" / "captioner"))
    return locate(f"blip:{name or DEFAULT}", otherwise="-s captioner=retrieval")


def load_blip(name: str = "", device: str | torch.device = "cpu") -> Blip:
    """Load the captioner that `find_blip` finds under this name, in eval mode; in float32, on CUDA in bfloat16.

    Raises MaxiError when it cannot be found, does not caption images, or its files are damaged or do not fit together.
    """
    folder, where = find_blip(name), f"blip:{name or DEFAULT}"
    _check_folder(folder, where)
    with reading(where):
        blip, report = _read(folder, bfloat16=torch.device(device).type == "cuda")
    check_report(report, where)
    check_vocabulary(blip.tokenizer, blip.text_config.vocab_size, where)
    blip.model.to(device).eval()
    _try_out(blip, where)
    return blip


def _check_folder(folder: Path, where: str) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CAPTIONING,
    )

    kind = model_type(folder, where)
    if kind not in CAPTIONING:
        raise MaxiError(
            f"{where} is a model of type {kind!r}, which captions no images; pass one such as BLIP"
        )
    check_files(folder, where)
    if not any((folder / name).is_file() for name in PREPROCESSING_FILES):
        raise MaxiError(f"{where} has no preprocessor_config.json; copy it from the original model")


def _read(folder: Path, *, bfloat16: bool) -> tuple[Blip, dict[str, Any]]:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText

    model, report = AutoModelForImageTextToText.from_pretrained(
        folder,
        weights_only=True,
        dtype=torch.bfloat16 if bfloat16 else torch.float32,
        output_loading_info=True,
        **SAFELY,
    )
    # Pillow is always installed, and torchvision's resizing gives slightly other pixels.
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **SAFELY)
    tokenizer = read_tokenizer(folder)
    return Blip(model, processor, tokenizer, _prompt(model, tokenizer)), report


def _prompt(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens with which a caption begins: none, except for BLIP with the tokenizer of its authors.

    They trained it with a prompt and without a loss on the prompt's words, so it never learnt how a text begins.
    """
    if model.config.model_type != "blip" or tokenizer.cls_token_id is None:
        return []
    ids: list[int] = tokenizer(PROMPT)["input_ids"]
    return ids


def _try_out(blip: Blip, where: str) -> None:
    """Caption a black image, so that a model that needs a prompt, or whose parts do not fit, fails before the run."""
    try:
        blip.describe([np.zeros((64, 64, 3), np.uint8)])
    except Exception as error:  # the code of any model may raise any error
        if is_own_mistake(error):
            raise
        raise MaxiError(
            f"{where} cannot caption an image by itself ({first_line(error)}); pass one such as BLIP"
        ) from error
