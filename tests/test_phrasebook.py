"""Names in canonical form, and the written phrases found by them."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from maxi.text.phrasebook import Phrasebook, canonical_keys, shipped_book, split_words


def shipped_texts(name: str) -> tuple[str, ...]:
    text = (files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    rows = {row["name"]: row["texts"] for row in map(json.loads, text.splitlines())}
    return tuple(rows[name])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("doing push-ups", "doing push-ups"),
        ("push ups", "doing push-ups"),
        ("PushUps", "doing push-ups"),
        ("push_up", "doing push-ups"),
        ("practising push-ups", "doing push-ups"),
        ("Playing the guitar", "playing guitar"),
        ("play guitar", "playing guitar"),
        ("guitar playing", "playing guitar"),
        ("ride_bike", "riding a bicycle"),
        ("Running", "running"),
        ("person running", "running"),
        ("running a marathon", "running a marathon"),
        ("marathon running", "running a marathon"),
        ("HandstandPushups", "doing handstand push-ups"),
    ],
)
def test_look_up_in_the_shipped_rows(name: str, row: str) -> None:
    assert tuple(shipped_book().find(name)) == shipped_texts(row)


def test_look_up_never_guesses() -> None:
    book = Phrasebook(
        [
            ("running", ["jog"], ["a"]),
            ("running a marathon", [], ["b"]),
            ("kicking a ball", [], ["c"]),
            ("kick balls", [], ["d"]),
            ("jog", [], ["e"]),
            ("putting on shoes", [], ["f"]),
        ]
    )
    assert book.find("Run") == ["a"]
    assert book.find("run the marathon") == ["b"]
    assert book.find("running a race") == []
    assert book.find("marathon") == []
    assert book.find("the ball kicks") == []  # two rows mean this
    assert book.find("kick balls") == ["d"]  # an exact name does not
    assert book.find("jog") == ["e"]  # name before alias
    assert book.find("taking off shoes") == []
    assert book.find("") == []


def test_canonical_form() -> None:
    assert split_words("HandstandPushUps") == ["handstand", "push", "ups"]
    assert split_words("push_up-jump/UCF") == ["push", "up", "jump", "ucf"]
    assert canonical_keys("Playing the guitar")[1] == canonical_keys("guitar playing")[1]
    assert canonical_keys("doing")[0] == "do"
    assert canonical_keys("performing a handstand")[0] == "handstand"
