"""Export models to open_clip's layout, and to ONNX; Hugging Face's layout is written by `Towers.save`."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.errors import MaxiError
from maxi.files import refuse_full, write_json
from maxi.models.clip import Clip, from_archive
from maxi.models.foreign import (
    OPEN_CLIP,
    OPEN_CLIP_WEIGHTS,
    Stated,
    is_archive,
    read_archive,
    stated_by,
)
from maxi.models.load import load_backbone, saved_beside
from maxi.models.saving import staging, weights_digest
from maxi.models.towers import Towers
from maxi.models.weight_names import to_openai

LAYOUTS = {"hf": ("clip", "siglip"), "open_clip": ("clip",), "onnx": ("clip", "siglip")}
"""Kinds of backbones that each layout can hold."""

GELUS = {"quick_gelu": True, "gelu": False}
# The largest difference that is allowed between components of ONNX Runtime's unit embeddings and the model's.
NEAR = 1e-4


def convert(source: str, out: str | Path, to: str = "hf", base: str | None = None) -> str:
    """Write the model `source`, a file, folder or spec, to the folder `out` in another layout, and say what was done.

    Weights and tokenizer that a checkpoint lacks are taken from the CLIP `base`. Raises MaxiError when the source is
    neither CLIP nor SigLIP, `base` is not a CLIP, something is missing, or the layout cannot hold the model.
    """
    refuse_full(Path(out))
    path = Path(source.removeprefix("clip:")).expanduser()
    if is_archive(path):
        base_clip = _clip(_towers(base), base) if base else None
        base_weights = base_clip.model.state_dict() if base_clip else None
        stated = None
        if base_clip:
            towers = stated_by(base_clip.model.config).towers
            stated = Stated(towers, base_clip.mean, base_clip.std, base_clip.resize_to)
        archive = read_archive(path, source, base_weights, stated)
        tokenizer = base_clip.tokenizer if base_clip else None
        model: Towers = from_archive(archive, source, tokenizer=tokenizer)
    elif base:
        raise MaxiError(f"{source}: --base is for checkpoints that lack weights; leave it out")
    else:
        model = _towers(source)
    if to == "onnx":
        difference = save_onnx(model, out)
        files = f"{out}: image.onnx and text.onnx"
        return f"{files}, {difference:.1e} from the model's embeddings at most"
    if to == "open_clip":
        save_open_clip(_clip(model, source), out)
    else:
        model.save(out)
    n_weights = sum(p.numel() for p in model.parameters())
    return f"{out}: {n_weights:,} weights in {to} layout, fingerprint {weights_digest(model)}"


def _towers(spec: str) -> Towers:
    """Load a CLIP or a SigLIP; MaxiError for other backbones, and for temporal attention."""
    backbone = load_backbone(spec)
    if backbone.kind not in LAYOUTS["hf"]:
        raise MaxiError(f"{spec} is {backbone.kind!r}; pass a CLIP or a SigLIP")
    if blocks := saved_beside(spec).temporal_blocks:
        raise MaxiError(
            f"{spec}: its last {blocks} image blocks attend across frames, which no other layout can express; "
            "use the folder as it is"
        )
    return cast(Towers, backbone)


def _clip(model: Towers, spec: str) -> Clip:
    if model.kind not in LAYOUTS["open_clip"]:
        raise MaxiError(f"{spec} is not a CLIP but {model.kind!r}; pass a CLIP, or --to hf")
    return cast(Clip, model)


def save_open_clip(clip: Clip, folder: str | Path) -> None:
    """Write `open_clip_config.json`, `open_clip_model.safetensors` and the tokenizer into a folder.

    open_clip reads the folder as `local-dir:FOLDER`. Raises MaxiError for activations that open_clip cannot have.
    """
    from safetensors.torch import save_file

    config = clip.model.config
    vision, text = config.vision_config, config.text_config
    if {vision.hidden_act, text.hidden_act} not in ({"quick_gelu"}, {"gelu"}):
        raise MaxiError(
            f"{folder}: open_clip cannot have the activations {vision.hidden_act!r} and {text.hidden_act!r};"
            " pass --to hf"
        )
    options = {
        "model_cfg": {
            "embed_dim": config.projection_dim,
            "quick_gelu": GELUS[vision.hidden_act],
            "vision_cfg": {
                "image_size": vision.image_size,
                "layers": vision.num_hidden_layers,
                "width": vision.hidden_size,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
                "patch_size": vision.patch_size,
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
                "mlp_ratio": text.intermediate_size / text.hidden_size,
            },
        },
        "preprocess_cfg": {"mean": list(clip.mean), "std": list(clip.std)},
    }
    with staging(folder) as part:
        weights = {k: v.cpu() for k, v in to_openai(clip.model.state_dict()).items()}
        save_file(weights, part / OPEN_CLIP_WEIGHTS[0])
        clip.tokenizer.save_pretrained(part)
        write_json(part / OPEN_CLIP, options)


class _Image(nn.Module):
    """The image tower as it is exported: pixels (B, 3, S, S) -> unit embeddings (B, D)."""

    def __init__(self, model: Towers) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.model.encode_image(pixels), dim=-1)


class _Text(nn.Module):
    """The text tower as it is exported: token ids (N, L) -> unit embeddings (N, D)."""

    def __init__(self, model: Towers) -> None:
        super().__init__()
        self.model = model
        model.packed = False

    def forward(self, input_ids: Tensor) -> Tensor:
        return F.normalize(self.model.encode_text({"input_ids": input_ids}), dim=-1)


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Silence the exporter, which warns of packages that are not needed and of its own deprecations."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@torch.inference_mode()
def save_onnx(model: Towers, folder: str | Path) -> float:
    """Write `image.onnx`, `text.onnx`, the tokenizer and `preprocessing.json` into a folder.

    The inputs are `pixels` (B, 3, S, S), normalised, and `input_ids` (N, L); the outputs are unit embeddings (B, D)
    and (N, D). Both towers are run in ONNX Runtime on random inputs, and the largest difference to the model is
    returned. Raises MaxiError when the packages are missing or the results differ.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MaxiError('ONNX needs its packages; run `pip install "maxi[onnx]"`') from error
    size, vocabulary = model.image_size, model.model.config.text_config.vocab_size
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary - 2, (3, model.max_length), generator=random)
    ids[:, -1] = model.tokenizer.eos_token_id
    pixels = torch.randn(3, 3, size, size, generator=random)
    text_axes = {0: "texts"} if model.fixed_length else {0: "texts", 1: "length"}
    towers: list[tuple[str, type[nn.Module], str, Tensor, dict[int, str]]] = [
        ("image", _Image, "pixels", pixels, {0: "videos"}),
        ("text", _Text, "input_ids", ids, text_axes),
    ]
    largest = 0.0
    with staging(folder) as part, _quiet_export():
        for name, wrap, input_name, inputs, free_axes in towers:
            tower, path = wrap(model).eval(), part / f"{name}.onnx"
            shape: Any = tuple(
                torch.export.Dim(free_axes[i]) if i in free_axes else torch.export.Dim.STATIC
                for i in range(inputs.ndim)
            )
            torch.onnx.export(
                tower,
                (inputs,),
                path,
                input_names=[input_name],
                output_names=["unit_embedding"],
                dynamic_shapes=(shape,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for n in (3, 1):
                outputs = torch.from_numpy(session.run(None, {input_name: inputs[:n].numpy()})[0])
                largest = max(largest, float((outputs - tower(inputs[:n])).abs().max()))
        if largest > NEAR:
            raise MaxiError(
                f"{folder}: ONNX Runtime's embeddings differ by {largest:.1e}; report this as a bug"
            )
        model.tokenizer.save_pretrained(part)
        steps = {"size": size, "resize_to": model.resize_to, "mean": model.mean, "std": model.std}
        (part / "preprocessing.json").write_text(json.dumps(steps), encoding="utf-8")
    return largest
