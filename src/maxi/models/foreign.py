"""CLIPs in other layouts than Hugging Face's, read as tensors alone: nothing that is in a file is ever executed.

OpenAI's archives (TorchScript), open_clip's folders and state dicts, and checkpoints of the X-CLIP family.
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
    """A CLIP of another layout: settings of a CLIPConfig, weights under Hugging Face's names, preprocessing."""

    settings: dict[str, Any]
    state: State
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folder: Path | None  # where its own tokenizer may be


def is_archive(path: Path) -> bool:
    """Whether a path is a file of weights or a folder of open_clip."""
    return (path.is_file() and path.suffix in FILES) or (path / OPEN_CLIP).is_file()


def read_archive(path: Path, where: str, base: Mapping[str, Tensor] | None = None) -> Found:
    """Read a CLIP; weights that it lacks are taken from `base`, under Hugging Face's names.

    Raises MaxiError when the file is damaged, holds something else than tensors, or has weights that no CLIP has.
    """
    with reading(where):
        options: dict[str, Any] = {}
        folder = None
        if path.is_dir():
            folder = path
            options = read_json(path / OPEN_CLIP)
            path = next((path / n for n in OPEN_CLIP_WEIGHTS if (path / n).is_file()), path / "?")
            if not path.is_file():
                raise MaxiError(
                    f"{where} has none of {', '.join(OPEN_CLIP_WEIGHTS)}; copy the whole folder"
                )
        state = to_hugging_face(plain_names(read_tensors(path, where)), where)
        for name, tensor in (base or {}).items():
            state.setdefault(name, tensor)
        settings = shapes(state, where)
        act = (
            _activation(options, where) if options else "quick_gelu"
        )  # all others start from OpenAI's weights
        if heads := _heads(options):
            for tower, n in heads.items():
                settings[tower]["num_attention_heads"] = n
        for tower in ("vision_config", "text_config"):
            settings[tower]["hidden_act"] = act
        shown = options.get("preprocess_cfg", {}) if options else {}
        mean, std = shown.get("mean", CLIP_MEAN), shown.get("std", CLIP_STD)
        return Found(settings, state, tuple(map(float, mean)), tuple(map(float, std)), folder)


def _activation(options: Mapping[str, Any], where: str) -> str:
    model = options.get("model_cfg", {})
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    for key in ("timm_model_name", "hf_model_name"):
        if vision.get(key) or text.get(key):
            raise MaxiError(f"{where}: a tower of {key} is no ViT CLIP; pass another model")
    return "quick_gelu" if model.get("quick_gelu") else "gelu"


def _heads(options: Mapping[str, Any]) -> dict[str, int]:
    model = options.get("model_cfg", {}) if options else {}
    vision, text, found = model.get("vision_cfg", {}), model.get("text_cfg", {}), {}
    if "width" in vision:
        found["vision_config"] = vision["width"] // vision.get("head_width", 64)
    if "heads" in text:
        found["text_config"] = int(text["heads"])
    return found


def read_tensors(path: Path, where: str) -> State:
    """The tensors of a file by name: safetensors, a TorchScript archive, or a checkpoint of tensors."""
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
    # The X-CLIP family pickles its settings beside the weights: they are read as a plain dictionary.
    with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _weights_of(data: Any, where: str) -> State:
    """The state dict in a checkpoint: at the top, or under one of the usual names."""
    for name in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(data, dict) and isinstance(data.get(name), dict):
            return _weights_of(data[name], where)
    tensors = (
        {k: v for k, v in data.items() if isinstance(v, Tensor)} if isinstance(data, dict) else {}
    )
    if not tensors:
        raise MaxiError(f"{where} holds no weights by name; pass a state dict or a checkpoint")
    return tensors


class _Parts(pickle.Unpickler):
    """Reads what a TorchScript archive pickled as plain objects: its classes are never built, no code is run."""

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
        _, kind, key, _, n = pid
        dtype = _STORAGES[kind]
        with self.archive.open(f"{self.root}/data/{int(key)}") as file:
            data = bytearray(file.read())
        if len(data) != n * dtype.itemsize:
            raise ValueError(f"record {key} has {len(data)} bytes, not {n * dtype.itemsize}")
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
    """A module of the archive as its attributes."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def _read_script(archive: zipfile.ZipFile) -> State:
    root = archive.namelist()[0].partition("/")[0]
    found: State = {}
    _gather(_Parts(archive, root).load(), "", found)
    return found


def _gather(part: Any, prefix: str, into: State) -> None:
    for name, value in vars(part).items():
        if isinstance(value, Tensor):
            into[prefix + name] = value
        elif isinstance(value, _Module):
            _gather(value, f"{prefix}{name}.", into)
