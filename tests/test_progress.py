"""What a person sees of progress on a terminal and in a file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest

from maxi.progress import Parts, under

STEP = {"loss": 1.5, "lr": 1e-4, "clips": 8, "seconds": 2.0, "data_seconds": 0.5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seen(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is written while a task of two parts, the second of two loops, goes through its items."""
    monkeypatch.setattr("sys.stderr", screen)
    progress = Parts(["render", "train"])
    loops: list[tuple[str, Iterable[Any]]] = [
        ("render", "abc"),
        ("train", [STEP]),
        ("train", [STEP]),
    ]
    for label, items in loops:
        assert list(progress(items, len(list(items)), label)) == list(items)
    return screen.getvalue()


def test_on_a_terminal_the_bar_of_a_part_takes_the_place_of_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = seen(Terminal(), monkeypatch)
    assert text.index("1/2 render:") < text.index("2/2 train:")
    assert "\n" not in text
    assert text.endswith("\r")
    assert not text.rstrip("\r").rpartition("\r")[2].strip()


def test_in_a_file_each_part_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(io.StringIO(), monkeypatch) == "1/2 render\n2/2 train\n"


def test_a_loop_can_be_put_under_another_label() -> None:
    labels = []

    def progress(items: Iterable[Any], total: int, label: str) -> Iterable[Any]:
        labels.append((label, total))
        return items

    assert list(under("evaluate", progress)("ab", 2, "embed")) == ["a", "b"]
    assert labels == [("evaluate", 2)]
