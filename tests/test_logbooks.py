"""Figures reach TensorBoard once a step and Weights & Biases only when asked, and no failing log stops a training."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.run import Run
from maxi.training.logbooks import open_logbooks
from maxi.training.schedule import Step
from test_loop import BAGS, CONFIG, clips, train, weights


@pytest.fixture
def model(tiny_clip: Path) -> VideoCLIP:
    return load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)


def asked(**changes: object) -> TrainConfig:
    return CONFIG.model_copy(update={"wandb": "actions", **changes})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def broken_at(stop: int) -> Callable[[Iterable[Step]], Iterator[tuple[Step, Tensor]]]:
    def batches(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for item in clips(steps):
            if item[0].number == stop:
                raise KeyboardInterrupt
            yield item

    return batches


class Service(ModuleType):
    """Stands for the package `wandb`: keeps what it is told."""

    def __init__(self, fails: str = "") -> None:
        super().__init__("wandb")
        self.fails = fails
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended = 0

    def _happens(self, what: str) -> None:
        if what == self.fails:
            raise RuntimeError("no network")

    def init(self, **options: Any) -> Service:
        self._happens("init")
        self.started.append(options)
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self._happens("log")
        self.logged.append((step, values))

    def finish(self) -> None:
        self._happens("finish")
        self.ended += 1


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    fake = Service()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_tensorboard_has_every_number_of_every_step(model: VideoCLIP, tmp_path: Path) -> None:
    train(model, BAGS, clips, CONFIG, folder=tmp_path)
    rows, found = rows_of(tmp_path), scalars(tmp_path)
    assert set(found) == set(rows[0]) - {"step", "epoch"}
    for name, values in found.items():
        assert [step for step, _ in values] == list(range(8))
        assert [value for _, value in values] == pytest.approx([row[name] for row in rows])


def test_a_resumed_training_draws_no_step_twice(model: VideoCLIP, tmp_path: Path) -> None:
    """It stops at step 6 with a checkpoint of its beginning alone: the steps between come again."""
    often, never = (CONFIG.model_copy(update={"checkpoint_seconds": s}) for s in (0.0, 1e9))
    for stop, config in ((3, often), (6, never)):
        with pytest.raises(KeyboardInterrupt):
            train(copy.deepcopy(model), BAGS, broken_at(stop), config, folder=tmp_path)
    assert len(scalars(tmp_path)["loss"]) == 6
    train(copy.deepcopy(model), BAGS, clips, never, folder=tmp_path)
    found = scalars(tmp_path)["loss"]
    assert [step for step, _ in found] == list(range(8))
    assert [value for _, value in found] == pytest.approx([r["loss"] for r in rows_of(tmp_path)])


def test_a_training_anew_forgets_the_old_curve(model: VideoCLIP, tmp_path: Path) -> None:
    train(copy.deepcopy(model), BAGS, clips, CONFIG, folder=tmp_path)
    shorter = CONFIG.model_copy(update={"epochs": 2})
    train(copy.deepcopy(model), BAGS, clips, shorter, folder=tmp_path)
    assert len(scalars(tmp_path)["loss"]) == 4


def test_without_tensorboard_nothing_is_written_and_nothing_said(
    model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    train(model, BAGS, clips, CONFIG, folder=tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert not caplog.records


def test_nothing_is_sent_unless_asked(model: VideoCLIP, tmp_path: Path, service: Service) -> None:
    train(model, BAGS, clips, CONFIG, folder=tmp_path)
    assert not service.started
    assert not (tmp_path / "wandb.id").exists()


def test_wandb_goes_on_with_the_run_of_the_folder(
    model: VideoCLIP, tmp_path: Path, service: Service
) -> None:
    config = asked(checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(model), BAGS, broken_at(3), config, folder=tmp_path)
    train(copy.deepcopy(model), BAGS, clips, config, folder=tmp_path)
    first, second = service.started
    assert first["project"] == "actions"
    assert first["id"] == second["id"] == (tmp_path / "wandb.id").read_text()
    assert second["resume"] == "allow"
    assert service.ended == 2
    assert [step for step, _ in service.logged] == [0, 1, 2, *range(3, 8)]
    assert [v["loss"] for _, v in service.logged] == [r["loss"] for r in rows_of(tmp_path)]

    train(copy.deepcopy(model), BAGS, clips, asked(lr=2e-3), folder=tmp_path)
    assert service.started[-1]["id"] != first["id"]  # another training, another curve


@pytest.mark.parametrize("present", [None, ModuleType("wandb")], ids=["missing", "a folder"])
def test_a_missing_wandb_is_said_before_any_step(
    present: ModuleType | None, model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", present)
    with pytest.raises(
        MaxiError, match="needs the package wandb; run `pip install wandb`, or leave"
    ):
        train(model, BAGS, broken_at(0), asked(), folder=tmp_path)
    assert not (tmp_path / "train.jsonl").exists()


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failing_wandb_is_told_once_and_changes_nothing(
    where: str, model: VideoCLIP, tmp_path: Path, service: Service, caplog: Any
) -> None:
    other = copy.deepcopy(model)
    service.fails = where
    train(model, BAGS, clips, asked(), folder=tmp_path / "asked")
    assert [r.getMessage() for r in caplog.records] == [
        "Weights & Biases: no more is logged there, training goes on (no network)"
    ]
    assert len(scalars(tmp_path / "asked")["loss"]) == 8
    train(other, BAGS, clips, CONFIG, folder=tmp_path / "plain")
    same = weights(other)
    assert all((tensor == same[name]).all() for name, tensor in weights(model).items())


def test_an_unwritable_folder_of_events_is_told_once(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with open_logbooks(Run(tmp_path), CONFIG, 0) as write:
        for step in range(3):
            write({"step": step, "epoch": 0, "loss": 1.0})
    assert len(caplog.records) == 1
    assert "TensorBoard: no more is logged there, training goes on" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_the_events_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *how, **more: opened(Path("/dev/full"), *how, **more)
    )
    with open_logbooks(Run(tmp_path), CONFIG, 0) as write:
        for step in range(3):
            write({"step": step, "epoch": 0, "loss": 1.0})
    monkeypatch.undo()
    assert caplog.record_tuples == [
        (
            "maxi.training.logbooks",
            logging.WARNING,
            "TensorBoard: no more is logged there, training goes on ([Errno 28] No space left on device)",
        )
    ]
