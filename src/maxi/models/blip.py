"""`blip`: a captioning model of transformers, BLIP first of all (section 3.2), describes frames one by one."""

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

# Mean difference of 16 x 16 grey values, of 255: still pictures are 0.1 to 0.2 apart, the slowest actions 0.3.
NEAR = 0.25


@dataclass(frozen=True)
class Blip:
    """A captioning model with its own preprocessing; it decodes greedily, so equal frames get equal captions.

    `prompt` are the tokens that a caption goes on from, with their end; empty for a model that starts by itself.
    """

    model: Any
    processor: Any
    tokenizer: Any
    prompt: list[int]

    @property
    def text_config(self) -> Any:
        """The settings of the part that writes."""
        return self.model.config.get_text_config(decoder=True)

    def caption(self, frames: NDArray[np.uint8]) -> list[str]:
        """uint8 frames (T, H, W, 3) -> T captions; a frame hardly unlike an earlier one takes over its caption."""
        return self.caption_all([frames])[0]

    def caption_all(self, videos: Sequence[NDArray[np.uint8]]) -> list[list[str]]:
        """What `caption` gives for each video, in one batch."""
        return once_per_picture(videos, self.describe)

    @torch.inference_mode()
    def describe(self, frames: Sequence[NDArray[np.uint8]]) -> list[str]:
        """uint8 frames (H, W, 3) -> their captions, each frame for itself, in one batch."""
        images = [Image.fromarray(frame) for frame in frames]
        n_prompt = max(0, len(self.prompt) - 1)  # without its end, which BLIP leaves out
        ids = torch.tensor([self.prompt] * len(images), device=self.model.device)
        start = {"input_ids": ids} if self.prompt else {}
        context = getattr(self.text_config, "max_position_embeddings", sys.maxsize)
        with quiet_transformers():
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
            tokens = self.model.generate(
                pixel_values=pixels.to(self.model.device, self.model.dtype),
                max_new_tokens=min(MAX_NEW_TOKENS, context - max(1, n_prompt)),
                do_sample=False,
                num_beams=1,
                **start,
            )
            texts: list[str] = self.tokenizer.batch_decode(
                tokens[:, n_prompt:], skip_special_tokens=True
            )
        return texts


def once_per_picture(
    videos: Sequence[NDArray[np.uint8]],
    describe: Callable[[Sequence[NDArray[np.uint8]]], list[str]],
) -> list[list[str]]:
    """Captions of all frames of some videos, each (T, H, W, 3), by describing at once those that differ."""
    sources = [nearly_equal(frames) for frames in videos]
    distinct = [(k, i) for k, of in enumerate(sources) for i in sorted(set(of))]
    texts = describe([videos[k][i] for k, i in distinct])
    captions = dict(zip(distinct, texts, strict=True))
    return [[captions[k, i] for i in of] for k, of in enumerate(sources)]


def nearly_equal(frames: NDArray[np.uint8]) -> list[int]:
    """For each frame (T, H, W, 3) the index of the one that is captioned for it: itself, or the last such before it."""
    sources: list[int] = []
    last = None
    for i, frame in enumerate(frames):
        small = Image.fromarray(frame).convert("L").resize((16, 16), Image.Resampling.BOX)
        grey = np.asarray(small, np.int16)
        if last is not None and np.abs(grey - last).mean() < NEAR:
            sources.append(sources[-1])
        else:
            sources.append(i)
            last = grey
    return sources


def find_blip(name: str = "") -> Path:
    """The folder of a captioner: `miniature` (in the package), a local folder, or `ID` or `ID@REVISION` of the hub.

    Raises MaxiError when it cannot be had.
    """
    if name == "miniature":
        return Path(str(resources.files("maxi") / "miniature" / "captioner"))
    return locate(f"blip:{name or DEFAULT}", otherwise="-s captioner=retrieval")


def load_blip(name: str = "", device: str | torch.device = "cpu") -> Blip:
    """Load a captioner by what `find_blip` takes: in eval mode, float32, on CUDA bfloat16.

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
    # Pillow's resizing, which everyone has: torchvision's differs by a shade.
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **SAFELY)
    tokenizer = read_tokenizer(folder)
    return Blip(model, processor, tokenizer, _prompt(model, tokenizer)), report


def _prompt(model: Any, tokenizer: Any) -> list[int]:
    """What a caption goes on from: nothing, but for BLIP with the tokenizer of its authors.

    They trained it with a prompt and no loss on the prompt's words, so it never learnt how a text begins.
    """
    if model.config.model_type != "blip" or tokenizer.cls_token_id is None:
        return []
    ids: list[int] = tokenizer(PROMPT)["input_ids"]
    return ids


def _try_out(blip: Blip, where: str) -> None:
    """Caption a black image: a model that needs a prompt, or whose parts do not fit, fails now and not in the run."""
    try:
        blip.describe([np.zeros((64, 64, 3), np.uint8)])
    except Exception as error:  # of any model's code
        if is_own_mistake(error):
            raise
        raise MaxiError(
            f"{where} cannot caption an image by itself ({first_line(error)}); pass one such as BLIP"
        ) from error
