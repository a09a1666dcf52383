"""Tables: round trips, atomic writes, broken lines, journals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxi.errors import MaxiError
from maxi.files import read_json
from maxi.records import (
    Bag,
    BagText,
    Caption,
    Journal,
    Match,
    Other,
    Phrases,
    Video,
    read_jsonl,
    write_jsonl,
)

ROWS = {
    Video: [
        Video("a", "x y/ä#.mp4", 10, 25.0, 4, 3),
        Video("b", "b", 1, 1.0, 1, 1, "short", "run"),
    ],
    Match: [
        Match("a", "run", 0.25, True),
        Match("b", "run", 0.25, True, (Other("sit", 0.5), Other("lie", 0.25))),
    ],
    Caption: [Caption("a", ("a man", "a dog"), "retrieval")],
    Bag: [
        Bag("a", "run", (BagText("jog", "phrase:shipped"), BagText("dash", "name"))),
        Bag("b", "sit"),
        Bag("c", "sit", (BagText("rest", "hand", 0.5), BagText("nap", "x", 0.25, "lie"))),
    ],
}


@pytest.mark.parametrize("cls", ROWS)
def test_round_trip(cls: type, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", ROWS[cls])
    assert read_jsonl(tmp_path / "t.jsonl", cls) == ROWS[cls]


def test_a_bag_edited_by_hand_needs_no_source(tmp_path: Path) -> None:
    (tmp_path / "bags.jsonl").write_text(
        '{"video": "a", "name": "run", "texts": [{"text": "jog"}]}\n\n'
    )
    assert read_jsonl(tmp_path / "bags.jsonl", Bag) == [Bag("a", "run", (BagText("jog", "hand"),))]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"video": "a"}',
        '{"video": "a", "name": "b", "more": 1}',
        '{"video": 1, "name": 2, "texts": 3}',
        '{"video": "a", "name": "b", "texts": [{"text": "jog", "weight": 0}]}',
        '{"video": "a", "name": "b", "texts": [{"text": "jog", "weight": "1"}]}',
        '{"video": "a", "name": "b", "texts": [{"text": "jog", "name": 3}]}',
    ],
)
def test_a_broken_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "bags.jsonl"
    path.write_text('{"video": "a", "name": "run", "texts": []}\n' + line + "\n")
    with pytest.raises(MaxiError, match=r"bags.jsonl:2: "):
        read_jsonl(path, Bag)


VIDEO = '{"id": "a", "path": "p", "n_frames": %s, "fps": %s, "width": 4, "height": 3, "label": %s}'


@pytest.mark.parametrize(
    ("cls", "line", "reason"),
    [
        (Match, '{"video": "a", "name": null, "score": 0.5, "kept": true}', "name is null"),
        (Match, '{"video": "a", "name": " ", "score": 0.5, "kept": true}', "name is empty"),
        (Match, '{"video": "a", "name": "b", "score": "0.5", "kept": true}', 'score is "0.5"'),
        (Match, '{"video": "a", "name": "b", "score": 0.5, "kept": 1}', "kept is 1, not true"),
        (
            Caption,
            '{"video": "a", "captions": "a man runs"}',
            'captions is "a man runs", not a list',
        ),
        (Caption, '{"video": "a", "captions": ["a", 3]}', "captions holds 3, not text"),
        (Caption, '{"video": "a", "captions": {"a": 1}}', "captions is {"),
        (Phrases, '{"name": "", "texts": []}', "name is empty"),
        (Phrases, '{"name": "b", "texts": [null]}', "texts holds null"),
        (Bag, '{"video": "a", "name": "b", "texts": [{"text": null}]}', "text is null"),
        (Bag, '{"video": "a", "name": "b", "texts": [{"text": " "}]}', "text is empty"),
        (Bag, '{"video": "a", "name": "b", "texts": [{"text": "c", "source": 1}]}', "source is 1"),
        (Bag, '{"video": "a", "name": "b", "texts": ["c"]}', 'texts holds "c", not'),
        (Bag, '{"video": "a", "name": "b", "texts": {"text": "c"}}', "texts is {"),
        (Video, VIDEO % ("true", 25, "null"), "n_frames is true, not a whole number"),
        (Video, VIDEO % (1.5, 25, "null"), "n_frames is 1.5"),
        (Video, VIDEO % (10, '"25"', "null"), 'fps is "25", not a number'),
        (Video, VIDEO % (10, 25, "3"), "label is 3, not text"),
        (Video, VIDEO % (10, 25, '""'), "label is empty"),
        (Video, "3", "not an object"),
    ],
)
def test_a_wrong_value_is_named(cls: type, line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(MaxiError, match=r"t\.jsonl:2: ") as caught:
        read_jsonl(path, cls)
    assert reason in str(caught.value)


def test_numbers_and_what_is_not_known_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(VIDEO % (10, 25, "null"))
    assert read_jsonl(tmp_path / "t.jsonl", Video) == [Video("a", "p", 10, 25.0, 4, 3)]


def test_a_table_may_open_with_a_byte_order_mark_but_must_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{"name": "b", "texts": ["caf\u00e9"]}\r\n'
    path.write_bytes(row.encode("utf-8-sig"))
    assert read_jsonl(path, Phrases) == [Phrases("b", ("caf\u00e9",))]
    path.write_bytes(b"\n" + row.encode("latin-1"))
    with pytest.raises(MaxiError, match=r"t\.jsonl:2: not UTF-8"):
        read_jsonl(path, Phrases)
    path.write_bytes('{"a": 1}'.encode("utf-8-sig"))
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"video": "a", "name": "n", "texts": [{"text": "%s"}]}' % ("x" * 10**7), "longer than"),
        ('{"video": "a", "name": "n", "texts": [{"text": "%s"}]}' % ("x" * 20_000), "20,000 char"),
        ("[" * 10**6, "too many brackets"),
        ('{"video": "a", "name": "n", "texts": [{"text": "t", "weight": NaN}]}', "NaN is not a"),
        ('{"video": "a", "name": "n", "texts": [{"text": "t", "weight": 1e999}]}', "weight is Inf"),
        ('{"video": "a", "name": "n", "texts": [{"text": "t", "weight": %s}]}' % ("9" * 5000), ""),
        (r'{"video": "a", "name": "n\u0000"}', "holds a character that no text has"),
        (r'{"video": "a", "name": "\ud800"}', "holds a character that no text has"),
        ('{"video": "a", "name": "n"}\n{"video": "a", "name": "m"}', "stands on line 1 already"),
    ],
)
def test_a_row_that_no_stage_writes_is_one_short_sentence(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(MaxiError, match=reason) as caught:
        read_jsonl(path, Bag)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("id", bad) for bad in ("", "a b", "a\nb", "\u00e9", "a" * 200)],
        *[("n_frames", bad) for bad in (0, -1, 10**30)],
        *[("width", bad) for bad in (0, 10**9)],
        *[("fps", bad) for bad in (-1, 1e300)],
    ],
)
def test_a_video_that_cannot_be_is_refused(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    video = {"id": "a", "path": "a.mp4", "n_frames": 1, "fps": 1.0, "width": 1, "height": 1}
    path.write_text(json.dumps({**video, field: value}))
    with pytest.raises(MaxiError, match=rf"t.jsonl:1: .*field {field} is"):
        read_jsonl(path, Video)


def test_names_of_files_that_are_not_utf_8_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [Video("a", "\udcff.mp4", 1, 1.0, 1, 1, short="odd \0 \udcff")]
    write_jsonl(path, rows)
    assert read_jsonl(path, Video) == rows


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


@pytest.mark.parametrize(
    "cut", ['{"video": "c", "name": "\u00e9'.encode()[:-1], b'{"text": 1}\n', b"[]\n"]
)
def test_a_journal_drops_what_is_no_whole_row(cut: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, Match, "key")
    journal.add(Match("a", "line\u2028break", 0.5, True))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + cut)
    again = Journal(path, Match, "key")
    again.close()
    assert [row.name for row in again.done] == ["line\u2028break"]
    assert path.read_bytes() == whole
