"""Expanders: sources in turn, their grammar, files of phrases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from maxi.errors import MaxiError
from maxi.method.expansion import EXPANDERS, ExpandContext, expand, parse
from maxi.records import Phrases
from maxi.text.phrasebook import shipped_book, split_words

ROOT = Path(__file__).parents[1]


def texts_of(rows: Sequence[Phrases], name: str) -> list[str]:
    return [text for row in rows if row.name == name for text in row.texts]


def outside(names: Sequence[str], context: ExpandContext) -> list[Phrases]:
    """An expander as a user writes one, with the faults such a source has."""
    texts = ("  Waving BOTH arms.", "waving both arms", "", *(f"text {i}" for i in range(9)))
    return [Phrases(name, texts, "ignored") for name in [*names, "never asked"]]


@pytest.mark.parametrize("name", sorted(EXPANDERS.keys() - {"openai", "hf"}))
def test_every_expander_keeps_the_contract(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("juggling\tkeeping balls in the air\n", encoding="utf-8")
    argument = str(path) if name == "file" else ""
    rows = EXPANDERS[name](argument)(["juggling", "sawing wood"], ExpandContext())
    assert [row.name for row in rows] == ["juggling", "sawing wood"]
    assert rows[0].texts
    assert all(isinstance(row.texts, tuple) for row in rows)


def test_five_phrases_each_that_are_not_the_name() -> None:
    names = ["juggling", "riding a tricycle", "doing push-ups", "mending a bicycle", "PlayingTuba"]
    rows = expand(names)
    for name in names:
        texts = texts_of(rows, name)
        assert len(texts) == 5 == len(set(texts))
        assert not {name.lower(), " ".join(split_words(name))} & set(texts)
    assert list(dict.fromkeys(row.name for row in rows)) == names


def test_sources_are_asked_in_order_and_fill_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"name": "Running", "texts": ["racing", "RUNNING", "racing."]}))
    rows = expand(["running", "mending a bicycle"], f"file:{path}+shipped+wordnet")
    assert [(r.name, r.source, len(r.texts)) for r in rows] == [
        ("running", "file:mine.jsonl", 1),
        ("running", "shipped", 4),
        ("mending a bicycle", "wordnet", 5),
    ]
    assert rows[0].texts == ("racing",)
    assert expand(["running"], n_phrases=2)[0].texts == tuple(shipped_book().find("running")[:2])


def test_unknown_names_stay_empty_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = expand(["qwrtzp", "running", "打篮球", "😀", "qwrtzp"])
    assert [(r.name, len(r.texts)) for r in rows] == [
        ("qwrtzp", 0),
        ("running", 5),
        ("打篮球", 0),
        ("😀", 0),
    ]
    assert "3 of 4 names have no phrases" in caplog.text
    assert expand([]) == []


def test_an_expander_from_outside_is_cleaned() -> None:
    rows = expand(["waving"], "tests_outside:outside")
    assert rows == [
        Phrases(
            "waving",
            ("waving both arms", "text 0", "text 1", "text 2", "text 3"),
            "tests_outside:outside",
        )
    ]


@pytest.fixture(autouse=True)
def _outside_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tests_outside", sys.modules[__name__])


def test_known_names_win_over_modules_and_a_plus_may_be_in_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a+b.tsv"
    path.write_text("running\trushing along\n", encoding="utf-8")
    assert [source for source, _ in parse(f"file:{path}+shipped")] == ["file:a+b.tsv", "shipped"]
    assert texts_of(expand(["running"], f"file:{path}"), "running") == ["rushing along"]
    assert [source for source, _ in parse("file:json+wordnet")] == ["file:json", "wordnet"]


@pytest.mark.parametrize(
    ("expander", "message"),
    [
        ("shiped", "did you mean shipped"),
        ("shipped+", "unknown expander"),
        ("shipped:x", "takes no argument"),
        ("file", "write file:PATH"),
        ("no_such_package.module:function", "cannot be imported"),
        ("file:/no/such/file.jsonl", "cannot be read"),
    ],
)
def test_wrong_expanders_say_what_to_do(expander: str, message: str) -> None:
    with pytest.raises(MaxiError, match=message):
        expand(["running"], expander)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"name": "juggling", "texts": ["keeping balls up"]}\n\n'),
        ("rows.jsonl", '{"name": "juggling", "texts": ["keeping balls up"], "source": "llm"}'),
        ("object.json", '{"juggling": ["keeping balls up"]}'),
        ("lines.txt", "juggling\tkeeping balls up\r\n"),
        ("bom.tsv", "\ufeffjuggling\tkeeping balls up"),
    ],
)
def test_file_formats(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert texts_of(expand(["juggling"], f"file:{path}"), "juggling") == ["keeping balls up"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"name": "a", "texts": ["b"]}\n{"name": "c"}', r"a\.jsonl:2: expected"),
        ("a.jsonl", b"not json", r"a\.jsonl:1: not valid JSON"),
        ("a.jsonl", b"[1, 2]", r"a\.jsonl:1: expected a row"),
        ("a.jsonl", b'{"name": "a", "texts": "b"}', r"a\.jsonl:1: expected"),
        ("a.json", b"[1]", "expected one JSON object"),
        ("a.json", b'{"a": [1]}', "expected a name and a list"),
        ("a.txt", b"only a name", r"a\.txt:1: expected `name<TAB>phrase`"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read as UTF-8"),
    ],
)
def test_malformed_files_are_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MaxiError, match=message):
        expand(["a"], f"file:{path}")


def test_untrusted_texts_are_cleaned_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "wild.json"
    texts = ["\x00Up\u202e  AND\ndown!", " ".join(["word"] * 500), "", "...", "jump", "Jump!"]
    path.write_text(json.dumps({"jump": texts}))
    assert texts_of(expand(["jump"], f"file:{path}"), "jump") == ["up and down"]


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_hash_seed() -> None:
    names = ["mending a bicycle", "grilling sausages", "xylophone", "water polo"]
    code = f"from maxi.method.expansion import expand; print(expand({names}), end='')"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        check=True,
        text=True,
    )
    assert other.stdout == str(expand(names))
