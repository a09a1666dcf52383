"""The shipped phrases: rows that look-up and bags can rely on."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

PHRASE = re.compile(r"[a-z]+(?:['-][a-z]+)*(?: [a-z]+(?:['-][a-z]+)*)*")
NAME = re.compile(r"[a-z0-9'-]+(?: [a-z0-9'-]+)*")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    text = (files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def names(row: dict[str, Any]) -> list[str]:
    return [row["name"], *row["aliases"]]


def test_there_are_at_least_500_rows_of_one_shape(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 500
    assert {tuple(row) for row in rows} == {("name", "aliases", "texts")}
    assert [row["name"] for row in rows if len(row["aliases"]) > 4] == []


def test_no_two_actions_share_a_name(rows: list[dict[str, Any]]) -> None:
    counts = Counter(name.lower() for row in rows for name in names(row))
    assert [name for name, count in counts.items() if count > 1] == []


def test_names_are_lower_case_words(rows: list[dict[str, Any]]) -> None:
    assert [name for row in rows for name in names(row) if not NAME.fullmatch(name)] == []


def test_each_action_has_five_distinct_texts(rows: list[dict[str, Any]]) -> None:
    assert [
        row["name"] for row in rows if not len(row["texts"]) == len(set(row["texts"])) == 5
    ] == []


def test_no_text_describes_two_actions(rows: list[dict[str, Any]]) -> None:
    counts = Counter(text for row in rows for text in row["texts"])
    assert [text for text, count in counts.items() if count > 1] == []


def test_texts_are_short_lower_case_words(rows: list[dict[str, Any]]) -> None:
    texts = [text for row in rows for text in row["texts"]]
    assert [text for text in texts if not PHRASE.fullmatch(text)] == []
    assert [text for text in texts if not 2 <= len(text.split()) <= 8] == []


def test_texts_begin_with_a_gerund_and_vary_it(rows: list[dict[str, Any]]) -> None:
    verbs = {row["name"]: [text.split()[0] for text in row["texts"]] for row in rows}
    assert [
        name for name, first in verbs.items() if not all(verb.endswith("ing") for verb in first)
    ] == []
    assert [name for name, first in verbs.items() if len(set(first)) < 3] == []


def test_no_text_is_the_name_of_an_action(rows: list[dict[str, Any]]) -> None:
    known = {name for row in rows for name in names(row)}
    assert [text for row in rows for text in row["texts"] if text in known] == []
