"""Read CLIPs in other layouts than Hugging Face's as tensors alone: no code in a file is ever executed.

These are OpenAI's archives (TorchScript), open_clip's folders and state dicts, and checkpoints of the X-CLIP family.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maxi.errors import MaxiError
from maxi.files import read_json
from maxi.models.hugging_face import reading
from maxi.models.weight_names import State, plain_names, shapes, to_hugging_face

FILES = (".pt", ".pth", ".bin", ".safetensors")
OPEN_CLIP = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Found(NamedTuple):
    """A CLIP that was read from another layout.

    It holds the settings of a CLIPConfig, the weights under Hugging Face's names, and the mean and std of pixels.
    """

    settings: dict[str, Any]
    state: State
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folder: Path | None  # the folder that may hold its own tokenizer


def is_archive(path: Path) -> bool:
    """Say whether a path is a file of weights or a folder of open_clip."""
    return (path.is_file() and path.suffix in FILES) or (path / OPEN_CLIP).is_file()


def read_archive(path: Path, where: str, base: Mapping[str, Tensor] | None = None) -> Found:
    """Read a CLIP; weights that it lacks are taken from `base`, under Hugging Face's names.

    Raises MaxiError when the file is damaged, holds anything but tensors, or has weights that no CLIP has.
    """
    with reading(where):
        options: dict[str, Any] = {}
        folder = None
        if path.is_dir():
            folder = path
            options = read_json(folder / OPEN_CLIP)
            files = [folder / name for name in OPEN_CLIP_WEIGHTS if (folder / name).is_file()]
            if not files:
                raise MaxiError(
                    f"{where} has none of {', '.join(OPEN_CLIP_WEIGHTS)}; copy the whole folder"
                )
            path = files[0]
        state = to_hugging_face(plain_names(read_tensors(path, where)), where)
        for name, tensor in (base or {}).items():
            state.setdefault(name, tensor)
        settings = shapes(state, where)
        # Checkpoints without a configuration all started from OpenAI's weights.
        activation = _activation(options, where) if options else "quick_gelu"
        for tower in ("vision_config", "text_config"):
            settings[tower]["hidden_act"] = activation
        for tower, n_heads in _heads(options).items():
            settings[tower]["num_attention_heads"] = n_heads
        preprocessing = options.get("preprocess_cfg", {}) if options else {}
        mean, std = preprocessing.get("mean", CLIP_MEAN), preprocessing.get("std", CLIP_STD)
        return Found(settings, state, tuple(map(float, mean)), tuple(map(float, std)), folder)


def _activation(options: Mapping[str, Any], where: str) -> str:
    """Return the activation that open_clip's settings name; MaxiError for a tower of another kind."""
    model = options.get("model_cfg", {})
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    for key in ("timm_model_name", "hf_model_name"):
        if vision.get(key) or text.get(key):
            raise MaxiError(f"{where}: a tower of {key} is not a ViT CLIP; pass another model")
    return "quick_gelu" if model.get("quick_gelu") else "gelu"


def _heads(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of attention heads of each tower for which open_clip's settings state it."""
    model = options.get("model_cfg", {}) if options else {}
    vision, text, n_heads = model.get("vision_cfg", {}), model.get("text_cfg", {}), {}
    if "width" in vision:
        n_heads["vision_config"] = vision["width"] // vision.get("head_width", 64)
    if "heads" in text:
        n_heads["text_config"] = int(text["heads"])
    return n_heads


def read_tensors(path: Path, where: str) -> State:
    """Return the tensors of a file by name.

    The file is in safetensors, a TorchScript archive, or a checkpoint of tensors. Raises MaxiError when it is damaged
    or holds no weights.
    """
    with reading(where):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    return _read_script(archive)
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
        with self.archive.open(f"{self.root}/data/{int(key)}") as file:
            data = bytearray(file.read())
        n_bytes = n_numbers * dtype.itemsize
        if len(data) != n_bytes:
            raise ValueError(f"record {key} has {len(data)} bytes, not {n_bytes}")
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
