"""The state of a training on disk, and the ensemble of two models in weight space (section 4.2)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maxi.documents import Saved, check_document
from maxi.errors import MaxiError
from maxi.files import parse_json


def interpolate(
    pretrained: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return (1 - alpha) * pretrained + alpha * finetuned, tensor by tensor (section 4.2).

    With alpha 0 or 1 the result is exactly one of the two. Tensors of integers are taken from `finetuned`, unless
    alpha is 0. Raises MaxiError when the two do not hold the same names and shapes.
    """
    if unshared := sorted(set(pretrained) ^ set(finetuned)):
        raise MaxiError(
            f"the two models differ in {len(unshared)} tensors, first {unshared[0]!r}; use the same backbone"
        )
    result = {}
    for name, old in pretrained.items():
        new = finetuned[name]
        if old.shape != new.shape:
            raise MaxiError(
                f"{name}: shapes {tuple(old.shape)} and {tuple(new.shape)} differ; use the same backbone"
            )
        if alpha in (0.0, 1.0) or not old.is_floating_point():
            result[name] = (new if alpha else old).clone()
        else:
            result[name] = old + alpha * (new - old)
    return result


def model_files(folder: Path) -> list[Path]:
    """Return the weight files of a saved model, in order."""
    return sorted(folder.glob("*.safetensors"))


class State(NamedTuple):
    """The state from which a training is resumed; `average` is empty when weights are not averaged."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    log: list[dict[str, Any]]


def save_state(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    key: str,
    log: Sequence[Mapping[str, Any]],
    average: Mapping[str, Tensor] | None = None,
    keep: int = 1,
) -> None:
    """Write `folder/step-N/`, moved into place when it is complete, then remove all but the newest `keep` states.

    `log` holds the log's rows up to this step. They are kept with the weights, so that the two never disagree. Raises
    MaxiError when the state cannot be written.
    """
    moments = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    tables = {"weights": weights, "optimiser": moments} | ({"average": average} if average else {})
    _write(folder, f"step-{step:08d}", tables, {"step": step, "key": key, "log": log})
    states = sorted(folder.glob("step-*"))
    newest = states.index(folder / f"step-{step:08d}")  # later ones belong to another training
    for path in states[: max(0, newest + 1 - keep)] + states[newest + 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def save_best(
    folder: Path, weights: Mapping[str, Tensor], *, key: str, row: Mapping[str, Any]
) -> None:
    """Write `folder/best-N/`: the weights with the lowest validation loss so far, and their row of the log.

    Earlier ones are removed afterwards. A resumed training that comes to the same step again does not write it twice.
    Raises MaxiError when it cannot be written.
    """
    name = f"best-{row['step'] + 1:08d}"
    if _info(folder / name).get("key") != key:
        _write(folder, name, {"weights": weights}, {"key": key, **row})
    for path in folder.glob("best-*"):
        if path.name != name:
            shutil.rmtree(path, ignore_errors=True)


def load_best(folder: Path, key: str) -> tuple[str, dict[str, Tensor]]:
    """Return the folder's name and the weights that `save_best` wrote with this `key`.

    Raises MaxiError when there are none, or they cannot be read.
    """
    for path in sorted(folder.glob("best-*"), reverse=True):
        if _info(path).get("key") == key:
            try:
                return path.name, load_file(path / "weights.safetensors")
            except (OSError, SafetensorError) as error:
                raise MaxiError(
                    f"{path}: the best checkpoint cannot be read ({error}); remove {folder} and train again"
                ) from error
    raise MaxiError(
        f"{folder}: this training's best checkpoint is gone; remove the folder and train again"
    )


def _info(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's `state.json`, or an empty dict when it cannot be read."""
    try:
        info = parse_json((path / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _write(
    folder: Path, name: str, tables: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]
) -> None:
    """Write tables of tensors and `state.json` into `folder/name`, which appears only when all are on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished, final = folder / "writing", folder / name
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for table, tensors in tables.items():
            path = unfinished / f"{table}.safetensors"
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        (unfinished / "state.json").write_text(json.dumps(state), encoding="utf-8")
        _sync(unfinished)
    except (SafetensorError, OSError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise MaxiError(
            f"{folder}: the checkpoint cannot be written ({error}); make room, then add --resume"
        ) from error
    shutil.rmtree(final, ignore_errors=True)
    unfinished.rename(final)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def load_state(folder: Path, optimiser: torch.optim.Optimizer, key: str) -> State | None:
    """Return the newest readable state with this `key`, or None; the optimiser's state is loaded in place."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        info = _info(path)
        if info.get("key") != key:
            continue
        try:
            saved = check_document(info, Saved, str(path))
        except MaxiError:
            continue
        try:
            weights = load_file(path / "weights.safetensors")
            moments = load_file(path / "optimiser.safetensors")
            average_path = path / "average.safetensors"
            average = load_file(average_path) if average_path.exists() else {}
        except (OSError, SafetensorError):
            continue
        parameter_states: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, _, field = name.partition(".")
            parameter_states.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": parameter_states})
        return State(saved["step"], weights, average, saved["log"])
    return None
