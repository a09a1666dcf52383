"""Training state on disk, and weight-space ensembling (section 4.2)."""

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

from maxi.errors import MaxiError


def interpolate(
    pretrained: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha) * pretrained + alpha * finetuned, tensor by tensor; alpha 0 and 1 return the ends exactly.

    Raises MaxiError when the two do not hold the same names and shapes.
    """
    if unlike := sorted(set(pretrained) ^ set(finetuned)):
        raise MaxiError(
            f"the two models differ in {len(unlike)} tensors, first {unlike[0]!r}; use the same backbone"
        )
    result = {}
    for name, old in pretrained.items():
        new = finetuned[name]
        if old.shape != new.shape:
            raise MaxiError(
                f"{name}: shapes {tuple(old.shape)} and {tuple(new.shape)} differ; use the same backbone"
            )
        mixed = alpha in (0.0, 1.0) or not old.is_floating_point()
        result[name] = (new if alpha else old).clone() if mixed else old + alpha * (new - old)
    return result


def model_files(folder: Path) -> list[Path]:
    """The weight files of a saved model, in order."""
    return sorted(folder.glob("*.safetensors"))


class State(NamedTuple):
    """What a resumed training goes on with; `average` is empty when weights are not averaged."""

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
    """Write `folder/step-N/` whole by renaming it into place, then drop all but the newest `keep`.

    `log` is what was logged up to this step: kept with the weights, so that the two never disagree.
    """
    moments = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    tables = {"weights": weights, "optimiser": moments} | ({"average": average} if average else {})
    _write(folder, f"step-{step:08d}", tables, {"step": step, "key": key, "log": log})
    states = sorted(folder.glob("step-*"))
    at = states.index(folder / f"step-{step:08d}")  # later ones are of another training
    for old in (*states[: max(0, at + 1 - keep)], *states[at + 1 :]):
        shutil.rmtree(old, ignore_errors=True)


def save_best(
    folder: Path, weights: Mapping[str, Tensor], *, key: str, row: Mapping[str, Any]
) -> None:
    """Write `folder/best-N/`: the weights with the lowest validation loss so far, and the log's row of them.

    Earlier ones go when it is there. One of the same training is there already when a resumed one comes by again.
    """
    name = f"best-{row['step'] + 1:08d}"
    if _info(folder / name).get("key") != key:
        _write(folder, name, {"weights": weights}, {"key": key, **row})
    for old in folder.glob("best-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def load_best(folder: Path, key: str) -> tuple[str, dict[str, Tensor]]:
    """The name and weights of what `save_best` wrote; MaxiError when this training has none that can be read."""
    for path in sorted(folder.glob("best-*"), reverse=True):
        if _info(path).get("key") == key:
            try:
                return path.name, load_file(path / "weights.safetensors")
            except (OSError, SafetensorError) as error:
                raise MaxiError(
                    f"{path}: the best checkpoint cannot be read ({error}); remove {folder} and train again"
                ) from error
    raise MaxiError(f"{folder}: this training's best checkpoint is gone; remove it and train again")


def _info(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; nothing when it cannot be read."""
    try:
        info = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _write(
    folder: Path, name: str, tables: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part, final = folder / "writing", folder / name
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        for table, tensors in tables.items():
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
                part / f"{table}.safetensors",
            )
        (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
        _sync(part)
    except (SafetensorError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise MaxiError(
            f"{folder}: the checkpoint cannot be written ({error}); make room, then add --resume"
        ) from error
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def load_state(folder: Path, optimiser: torch.optim.Optimizer, key: str) -> State | None:
    """The newest readable state with this `key`; the optimiser is filled in place."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        info = _info(path)
        if info.get("key") != key:
            continue
        try:
            step, log = int(info["step"]), list(info["log"])
        except (KeyError, TypeError, ValueError):
            continue
        try:
            weights = load_file(path / "weights.safetensors")
            moments = load_file(path / "optimiser.safetensors")
            averaged = path / "average.safetensors"
            average = load_file(averaged) if averaged.exists() else {}
        except (OSError, SafetensorError):
            continue
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, _, field = name.partition(".")
            state.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return State(step, weights, average, log)
    return None
