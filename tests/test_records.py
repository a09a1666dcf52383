"""Tables: round trips, atomic writes, broken lines, journals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxi.errors import MaxiError
from maxi.records import Bag, BagText, Caption, Journal, Match, Video, read_jsonl, write_jsonl

ROWS = {
    Video: [
        Video("a", "x y/ä#.mp4", 10, 25.0, 4, 3),
        Video("b", "b", 1, 1.0, 1, 1, "short", "run"),
    ],
    Match: [Match("a", "run", 0.25, True)],
    Caption: [Caption("a", ("a man", "a dog"), "retrieval")],
    Bag: [
        Bag("a", "run", (BagText("jog", "phrase:shipped"), BagText("dash", "name"))),
        Bag("b", "sit"),
    ],
}


@pytest.mark.parametrize("cls", ROWS)
def test_round_trip(cls: type, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", ROWS[cls])
    assert read_jsonl(tmp_path / "t.jsonl", cls) == ROWS[cls]


def test_a_bag_edited_by_hand_needs_no_source(tmp_path: Path) -> None:
    (tmp_path / "bags.jsonl").write_text(
        '{"video": "a", "label": "run", "texts": [{"text": "jog"}]}\n\n'
    )
    assert read_jsonl(tmp_path / "bags.jsonl", Bag) == [Bag("a", "run", (BagText("jog", "hand"),))]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"video": "a"}',
        '{"video": "a", "label": "b", "more": 1}',
        '{"video": 1, "label": 2, "texts": 3}',
    ],
)
def test_a_broken_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "bags.jsonl"
    path.write_text('{"video": "a", "label": "run", "texts": []}\n' + line + "\n")
    with pytest.raises(MaxiError, match=r"bags.jsonl:2: "):
        read_jsonl(path, Bag)


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, ROWS[Match])

    def rows() -> object:
        yield ROWS[Match][0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, rows())
    assert read_jsonl(path, Match) == ROWS[Match]
    assert [p.name for p in tmp_path.iterdir()] == ["t.jsonl"]


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, Match, "key")
    journal.add(Match("a", "run", 0.5, True))
    journal.add(Match("b", "run", 0.5, True))
    journal.close()
    path.write_text(path.read_text() + '{"video": "c", "la')
    again = Journal(path, Match, "key")
    assert [row.video for row in again.done] == ["a", "b"]
    again.add(Match("c", "run", 0.5, True))
    again.close()
    assert [json.loads(line).get("video") for line in path.read_text().splitlines()] == [
        None,
        "a",
        "b",
        "c",
    ]
    other = Journal(path, Match, "another key")
    assert other.done == []
    other.close()
