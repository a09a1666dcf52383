"""The sentence bank that retrieval captions come from."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

LIGHT = {"anything", "something", "nothing", "everything", "ceiling", "building", "morning"}


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    text = (files("maxi") / "data" / "sentences.txt").read_text(encoding="ascii")
    return text.splitlines()


def test_enough_distinct_sentences(sentences: list[str]) -> None:
    assert len(sentences) >= 1200
    assert len(set(sentences)) == len(sentences)


def test_each_is_a_short_lower_case_caption(sentences: list[str]) -> None:
    assert [s for s in sentences if not re.fullmatch(r"[a-z'-]+( [a-z'-]+){3,13}", s)] == []


def test_many_verbs_and_some_scenes_without_an_action(sentences: list[str]) -> None:
    gerunds = [[w for w in s.split() if w.endswith("ing") and w not in LIGHT] for s in sentences]
    assert len({words[0] for words in gerunds if words}) >= 450
    assert 50 <= sum(not words for words in gerunds) <= 150


def test_subjects_vary(sentences: list[str]) -> None:
    starts = {" ".join(s.split()[:2]) for s in sentences}
    assert {"a man", "a woman", "a person", "a girl", "a boy", "two men", "a group"} <= starts
    assert sum(s.startswith("a man ") for s in sentences) < 0.4 * len(sentences)
