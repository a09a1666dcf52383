"""Training state on disk, and weight-space ensembling (section 4.2)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def save_state(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    key: str,
    log: Sequence[Mapping[str, Any]],
) -> None:
    """Write `folder/step-N/` whole by renaming it into place, then drop the older ones.

    `log` is what was logged up to this step: kept with the weights, so that the two never disagree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, final = folder / "writing", folder / f"step-{step:08d}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    moments = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    try:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in weights.items()},
            part / "weights.safetensors",
        )
        save_file(
            {k: v.cpu().contiguous() for k, v in moments.items()}, part / "optimiser.safetensors"
        )
        state = {"step": step, "key": key, "log": log}
        (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
        _sync(part)
    except (SafetensorError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise MaxiError(
            f"{folder}: the checkpoint cannot be written ({error}); make room, then add --resume"
        ) from error
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def load_state(
    folder: Path, optimiser: torch.optim.Optimizer, key: str
) -> tuple[int, dict[str, Tensor], list[dict[str, Any]]] | None:
    """The newest readable state with this `key`: its step, weights and log; the optimiser is filled in place."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            info = json.loads((path / "state.json").read_text(encoding="utf-8"))
            weights = load_file(path / "weights.safetensors")
            moments = load_file(path / "optimiser.safetensors")
        except (OSError, ValueError, SafetensorError):
            continue
        if info.get("key") != key:
            continue
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, _, field = name.partition(".")
            state.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return int(info["step"]), weights, info["log"]
    return None
