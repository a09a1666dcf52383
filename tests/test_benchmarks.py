"""The benchmarks of training run, on sizes that measure nothing, and both of their sides give the same numbers."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(request.param)
    if hasattr(
        module, "in_process"
    ):  # what has a process of its own to be measured needs none here
        monkeypatch.setattr(module, "in_process", lambda work, *args: work(*args))
    monkeypatch.setattr("os.cpu_count", torch.get_num_threads)
    return module


@pytest.mark.parametrize(
    "script",
    [
        "objective",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("memory", "step", "scaling", "savings", "windows")
        ),
    ],
    indirect=True,
)
def test_runs(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Through dynamo and autograd tracing; what a C++ compiler makes of the rest differs from machine to machine.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    script.measure(script.TINY)
    printed = capsys.readouterr().out
    assert printed
    assert "DIFFERENT" not in printed


@pytest.mark.parametrize("script", ["pairs"], indirect=True)
def test_a_missed_limit_is_exit_1(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--tiny"])
    for fine, status in ((True, 0), (False, 1)):
        with pytest.raises(SystemExit) as left:
            script.run(lambda sizes, fine=fine: fine, "What it does.", 2, 1)
        assert int(left.value.code) == status


@pytest.mark.parametrize("script", ["pairs"], indirect=True)
def test_ratios_are_of_pairs(script: ModuleType) -> None:
    done: list[str] = []
    pairs = script.in_turn(lambda: done.append("a"), lambda: done.append("b"), 3)
    assert "".join(done) == "ab" * 4
    assert len(pairs.ratios) == 3
    assert script.Pairs([1, 2, 1], [3, 4, 9]).ratio == 3
    assert not script.same("loss", [1.0, 2.0], [1.0, 2.1])


@pytest.mark.parametrize("script", ["scaling"], indirect=True)
def test_growth_is_the_exponent(script: ModuleType) -> None:
    x, residual = script.growth([2, 4, 8], [3 * n**1.5 for n in (2, 4, 8)])
    assert x == pytest.approx(1.5)
    assert residual == pytest.approx(0, abs=1e-9)
