"""Read CLIPs in other layouts than Hugging Face's as tensors alone: no code in a file is ever executed.

These are OpenAI's archives (TorchScript), open_clip's folders and state dicts, and checkpoints of the X-CLIP family.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maxi.errors import MaxiError, some
from maxi.files import read_json
from maxi.models.hugging_face import model_type, reading
from maxi.models.weight_names import State, plain_names, shapes, to_hugging_face

OPEN_CLIP = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

logger = logging.getLogger(__name__)

UNSEEN = ("hidden_act", "num_attention_heads", "layer_norm_eps")
"""The settings of a tower that the shapes of its weights do not show."""

# open_clip's settings that shapes, `UNSEEN` or the tokenizer cover, or that do nothing outside of training ...
OPEN_CLIP_SHAPES = {
    *(
        "layers",
        "width",
        "head_width",
        "heads",
        "mlp_ratio",
        "patch_size",
        "image_size",
        "patch_dropout",
    ),
    *(
        "context_length",
        "vocab_size",
        "norm_kwargs",
        "output_tokens",
        "tokenizer_kwargs",
        "hf_tokenizer_name",
    ),
}
# ... and the values of others that a CLIP has.
OPEN_CLIP_DEFAULTS = {
    **{"pool_type": "tok", "pos_embed_type": "learnable", "proj_type": "linear"},
    **{"attn_pooler_queries": 256, "attn_pooler_heads": 8, "proj_bias": False, "pad_id": 0},
}

SLACK = 2**26  # bytes by which records of an archive may exceed twice its size

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Stated(NamedTuple):
    """What is stated of a CLIP beside its weights, by a configuration or by the CLIP from which it was trained.

    `towers` holds settings of CLIPConfig for `vision_config` and `text_config`.
    """

    towers: Mapping[str, Mapping[str, Any]]
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resize_to: int | None = None


class Found(NamedTuple):
    """A CLIP that was read from another layout.

    It holds the settings of a CLIPConfig, the weights under Hugging Face's names, and the mean and std of pixels.
    """

    settings: dict[str, Any]
    state: State
    stated: Stated
    folder: Path | None  # the folder that may hold its own tokenizer


def is_archive(path: Path) -> bool:
    """Say whether a path is a file, of whatever name, or a folder of open_clip."""
    return path.is_file() or (path / OPEN_CLIP).is_file()


def read_archive(
    path: Path, where: str, base: Mapping[str, Tensor] | None = None, stated: Stated | None = None
) -> Found:
    """Read a CLIP; weights that it lacks are taken from `base`, under Hugging Face's names.

    Heads, activation and epsilon are those that open_clip's settings in the same folder state, else those of a
    config.json there, else `stated`. Where none states them, OpenAI's are assumed, with a warning unless the file is
    OpenAI's own archive. Raises MaxiError when the file is damaged, holds anything but tensors, has weights that no
    CLIP has, or settings that no CLIP has.
    """
    with reading(where):
        folder = path if path.is_dir() else path.parent
        beside = _stated_beside(folder, where)
        if path.is_dir():
            files = [folder / name for name in OPEN_CLIP_WEIGHTS if (folder / name).is_file()]
            if not files:
                raise MaxiError(
                    f"{where} has none of {', '.join(OPEN_CLIP_WEIGHTS)}; copy the whole folder"
                )
            path = files[0]
        tensors = read_tensors(path, where)
        state = to_hugging_face(plain_names(tensors), where)
        for name, tensor in (base or {}).items():
            state.setdefault(name, tensor)
        settings = shapes(state, where)
        known = beside or stated
        if known is None:
            known = Stated({})
            if "input_resolution" not in tensors:  # OpenAI's own archive has it
                logger.warning(
                    "%s states no settings beside its weights: taken are OpenAI's activation (quick_gelu), heads of 64 "
                    "numbers and epsilon 1e-5; if it was trained from another CLIP, run `maxi convert FILE OUT --base "
                    "CLIP` with that one",
                    where,
                )
        for tower, tower_settings in settings.items():
            if isinstance(tower_settings, dict):
                tower_settings["hidden_act"] = "quick_gelu"
                tower_settings.update(known.towers.get(tower, {}))
        return Found(settings, state, known, folder if beside else None)


def _stated_beside(folder: Path, where: str) -> Stated | None:
    """Return what open_clip's or Hugging Face's settings in a folder state of a CLIP; None when there are none."""
    if (folder / OPEN_CLIP).is_file():
        return _stated_by_open_clip(read_json(folder / OPEN_CLIP), where)
    if (folder / "config.json").is_file() and model_type(folder, where) == "clip":
        from transformers import CLIPConfig

        config = CLIPConfig.from_pretrained(folder, local_files_only=True)
        return stated_by(config)
    return None


def stated_by(config: Any) -> Stated:
    """Return what a CLIPConfig states and weights do not show."""
    towers = {"vision_config": config.vision_config, "text_config": config.text_config}
    return Stated(
        {tower: {name: getattr(c, name) for name in UNSEEN} for tower, c in towers.items()}
    )


def _stated_by_open_clip(options: Mapping[str, Any], where: str) -> Stated:
    """Return what open_clip's settings state; MaxiError for a setting of another value than a CLIP with a ViT has."""
    model = options.get("model_cfg", {})
    vision, text = dict(model.get("vision_cfg", {})), dict(model.get("text_cfg", {}))
    for key in ("timm_model_name", "hf_model_name"):
        if vision.get(key) or text.get(key):
            raise MaxiError(f"{where}: a tower of {key} is not a ViT CLIP; pass another model")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    n_heads = {
        "vision_config": vision.get("width", 0) // vision.get("head_width", 64),
        "text_config": int(text.get("heads", 0)),
    }
    towers: dict[str, dict[str, Any]] = {}
    for tower, stated in (("vision_config", vision), ("text_config", text)):
        other = [
            k
            for k, v in stated.items()
            if k not in OPEN_CLIP_SHAPES and v and v != OPEN_CLIP_DEFAULTS.get(k)
        ]
        if other:
            raise MaxiError(
                f"{where}: {OPEN_CLIP} states {some(other)}, which no CLIP here can have; pass another model"
            )
        towers[tower] = {
            "hidden_act": activation,
            "layer_norm_eps": (stated.get("norm_kwargs") or {}).get("eps", 1e-5),
        }
        if n_heads[tower]:
            towers[tower]["num_attention_heads"] = n_heads[tower]
    pixels = options.get("preprocess_cfg", {})
    mean, std = pixels.get("mean", CLIP_MEAN), pixels.get("std", CLIP_STD)
    return Stated(towers, tuple(map(float, mean)), tuple(map(float, std)))


def read_tensors(path: Path, where: str) -> State:
    """Return the tensors of a file by name; what kind of file it is, its content tells, not its name.

    The file is in safetensors, a TorchScript archive, or a checkpoint of tensors. Raises MaxiError when it is damaged,
    holds no weights or weights that are no fractions, or would grow to much more than its own size.
    """
    with reading(where):
        state = _read_tensors(path, where)
        for name, tensor in state.items():
            if (
                name.rpartition(".")[2] in ("weight", "bias", "proj")
                and not tensor.is_floating_point()
            ):
                raise MaxiError(
                    f"{where}: {name} holds whole numbers ({tensor.dtype}), which are no weights; pass another file"
                )
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise MaxiError(
                    f"{where}: {name} is larger than what is stored of it; copy the file again"
                )
        return state


def _read_tensors(path: Path, where: str) -> State:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # the length of the header, then the header
        from safetensors.torch import load_file

        return dict(load_file(path))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inflated = sum(record.file_size for record in archive.infolist())
            if inflated > 2 * path.stat().st_size + SLACK:
                raise MaxiError(
                    f"{where}: its records would grow to {inflated / 1e9:.1f} GB, from a file of "
                    f"{path.stat().st_size / 1e9:.3f} GB; no checkpoint does, so pass another file"
                )
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                return _read_script(archive)
    elif head[:1] != b"\x80":  # with which a pickle begins
        raise MaxiError(
            f"{where} is no file of weights: neither safetensors nor a checkpoint of PyTorch; pass another file"
        )
    return _weights_of(_read_checkpoint(path), where)


def _read_checkpoint(path: Path) -> Any:
    # The X-CLIP family pickles its settings beside the weights. They are read as a plain dictionary.
    with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _weights_of(data: Any, where: str) -> State:
    """Return the state dict of a checkpoint, which is the checkpoint itself or lies under one of the usual names."""
    content = data if isinstance(data, dict) else {}
    for name in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(content.get(name), dict):
            return _weights_of(content[name], where)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise MaxiError(f"{where} holds no weights by name; pass a state dict or a checkpoint")
    return tensors


class _Unpickler(pickle.Unpickler):
    """Read the modules of a TorchScript archive as plain objects: none of its classes is built, and no code is run."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))  # type: ignore[arg-type]
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        _, storage, key, _, n_numbers = pid
        dtype = _STORAGES[storage]
        record = self.archive.getinfo(f"{self.root}/data/{int(key)}")
        n_bytes = n_numbers * dtype.itemsize
        if record.file_size != n_bytes:  # known before it is read
            raise ValueError(f"record {key} has {record.file_size} bytes, not {n_bytes}")
        data = bytearray(self.archive.read(record))
        return torch.storage.TypedStorage(
            wrap_storage=torch.frombuffer(data, dtype=torch.uint8).untyped_storage(),
            dtype=dtype,
            _internal=True,
        )


_STORAGES = {
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class _Module:
    """A module of the archive: an object that has its attributes and nothing else."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def _read_script(archive: zipfile.ZipFile) -> State:
    root = archive.namelist()[0].partition("/")[0]
    tensors: State = {}
    _gather(_Unpickler(archive, root).load(), "", tensors)
    return tensors


def _gather(module: Any, prefix: str, tensors: State) -> None:
    """Add the tensors of a module and of the modules inside it, under their full names."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, _Module):
            _gather(value, f"{prefix}{name}.", tensors)
