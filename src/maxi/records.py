"""The rows of a run's files, and how they are read and written.

Every table is JSON lines. Beside a finished table lies `<name>.meta.json`, which says what it was made from.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from maxi.errors import MaxiError, UnfinishedError
from maxi.files import ESCAPED, parse_json, read_json_lines, write_text


@dataclass(frozen=True, slots=True)
class Video:
    """One readable video, a row of `manifest.jsonl`.

    `id` depends on the file's content alone, never on its name or folder. `n_frames` counts the frames that decode.
    `short` says why, where the file ends earlier than its header says. `label` is set only where the source states it;
    evaluation reads it, and training only where `match.supervised` asks for it. `n_bytes` and `changed` are the file's
    size and its time of change in nanoseconds: while they stay, the file is not read again to know its content.

    A video may be a segment of a file, from `start` to `end` in seconds: its frame 0 is frame `first` of the file, and
    `cut` says what was asked for. Where the file can be entered at a keyframe before it, `key` is the index of that
    frame in the file and `stamp` its time stamp.
    """

    id: str
    path: str
    n_frames: int
    fps: float
    width: int
    height: int
    short: str | None = None
    label: str | None = None
    n_bytes: int = 0
    changed: int = 0
    cut: str | None = None
    start: float | None = None
    end: float | None = None
    first: int | None = None
    key: int | None = None
    stamp: int | None = None

    @property
    def content(self) -> str:
        """The id without a segment and the number of a copy: equal for files with the same content."""
        return re.split("[@-]", self.id, maxsplit=1)[0]

    @property
    def seconds(self) -> float:
        """How long it is; 0 where the rate is not known."""
        if self.start is not None and self.end is not None:
            return self.end - self.start
        return self.n_frames / self.fps if self.fps else 0.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that is `unreadable` or `short` (its `kind`), and why: a row of `skipped.jsonl`.

    `again` says that a resumed run tries it again, because its decoder crashed, took too long or lacked memory.
    """

    path: str
    kind: str
    reason: str
    again: bool = False

    @classmethod
    def unreadable(cls, path: str, error: MaxiError) -> Skipped:
        """Return the row of a file that was not read because of this error."""
        return cls(path, "unreadable", str(error), isinstance(error, UnfinishedError))


class Other(NamedTuple):
    """A further name that may fit a video, and its weight; the nearest name has the weight 1."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Match:
    """The name nearest to a video (Eq. 1), its cosine `score`, and whether the match is kept for training.

    `others` are the next nearest names, where soft matching asks for them. `source` says who corrected the match:
    `hand`, or `answers` that `maxi refine --retrain` learnt from.
    """

    video: str
    name: str
    score: float
    kept: bool
    others: tuple[Other, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases that describe the action of one name, and the source they come from."""

    name: str
    texts: tuple[str, ...]
    source: str = "file"


@dataclass(frozen=True, slots=True)
class Caption:
    """Captions of a video's frames, in frame order."""

    video: str
    captions: tuple[str, ...]
    source: str = "file"


class BagText(NamedTuple):
    """A text of a bag, where it comes from, and its weight in the sums of Eq. 2.

    Sources are `phrase:shipped`, `caption:retrieval` and the like; where a text has several, they are joined with `+`.
    `name` is the action name beside the text in the training prompt, where it is not the name of the bag.
    """

    text: str
    source: str
    weight: float = 1.0
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Bag:
    """The texts that may describe one video, in a fixed order, without duplicates and without its name."""

    video: str
    name: str
    texts: tuple[BagText, ...] = field(default=())


Row = TypeVar("Row", Video, Skipped, Match, Phrases, Caption, Bag)

# Bags of many videos share most of their texts. One object for each text keeps 240,000 bags in a few hundred MB.
_shared: dict[tuple[str, str, float, str | None], BagText] = {}


def bag_text(text: str, source: str, weight: float = 1.0, name: str | None = None) -> BagText:
    """Return a text of a bag; equal texts are one object."""
    new = BagText(text, source, weight, name)
    return _shared.setdefault(new, new)


# The types that JSON may hold for each type of a field, and the word for them in messages.
_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    str | None: ((str, type(None)), "text"),
    int: ((int,), "a whole number"),
    int | None: ((int, type(None)), "a whole number"),
    float: ((int, float), "a number"),
    float | None: ((int, float, type(None)), "a number"),
    bool: ((bool,), "true or false"),
    tuple[str, ...]: ((list,), "a list"),
    tuple[BagText, ...]: ((list,), "a list"),
    tuple[Other, ...]: ((list,), "a list"),
}


# The ranges of numbers.
_BOUNDS: dict[str, tuple[float, float]] = {
    "n_frames": (1, 1 << 31),
    "width": (1, 1 << 16),
    "height": (1, 1 << 16),
    "fps": (0, 1e6),
    "score": (-1e6, 1e6),
    "start": (0, 1e9),
    "end": (0, 1e9),
    "first": (0, 1 << 31),
    "key": (0, 1 << 31),
    "stamp": (-(1 << 62), 1 << 62),
}
LONGEST_TEXT = 10_000  # characters
# What no text holds. A path may hold bytes that are not UTF-8, written as half characters; a reason is only shown.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_UNREADABLE = {"path": re.compile("\0"), "short": re.compile("(?!)"), "reason": re.compile("(?!)")}
_ID = re.compile("[!-~]{1,100}")  # it becomes a line of a file in ASCII

# The fields of which each value stands in one row only.
_ONE_ROW_EACH: dict[Any, str] = {Video: "id", Match: "video", Caption: "video", Bag: "video"}


def _schema(cls: type[Any]) -> tuple[dict[str, tuple[tuple[type, ...], str]], frozenset[str]]:
    """Return which types each field of a row may have, and the fields that it must have."""
    hints = get_type_hints(cls)
    needed = (f for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)
    return {f.name: _KINDS[hints[f.name]] for f in fields(cls)}, frozenset(f.name for f in needed)


# Made once: to look up the types for each of 240,000 rows takes longer than to read the rows.
_SCHEMAS = {cls: _schema(cls) for cls in (Video, Skipped, Match, Phrases, Caption, Bag)}


def _from_json(cls: type[Row], data: Any) -> Row:
    """Make a row from the JSON object of its line. Raises ValueError that says which field is wrong."""
    if type(data) is not dict:
        raise ValueError("not an object with fields")
    schema, needed = _SCHEMAS[cls]
    for key, value in data.items():
        if key not in schema:
            raise ValueError(f"unknown field {key!r}")
        types, kind = schema[key]
        if type(value) not in types:  # not isinstance, for which true and false are numbers
            raise ValueError(f"field {key} is {_json(value)}, not {kind}")
        if types == (list,):
            data[key] = _LISTS[cls](key, value)
        elif type(value) is str:
            _check_text(f"field {key}", value, _UNREADABLE.get(key, _NO_TEXT))
        elif value is not None and (bounds := _BOUNDS.get(key)):
            low, high = bounds
            if not low <= value <= high:  # NaN is in no range
                raise ValueError(f"field {key} is {_json(value)}, not from {low} to {high:,}")
    if absent := sorted(needed - data.keys()):
        raise ValueError(f"field {absent[0]!r} is missing")
    for key in ("name", "label"):
        if (text := data.get(key)) is not None and not text.strip():
            raise ValueError(f"field {key} is empty")
    if not _ID.fullmatch(data.get("id", "x")):
        raise ValueError(f"field id is {_json(data['id'])}, not a video's id")
    return cls(**data)


def _check_text(what: str, text: str, unreadable: re.Pattern[str] = _NO_TEXT) -> None:
    """Raise ValueError when a text is longer than any should be, or holds a character that it must not."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{what} has {len(text):,} characters, more than {LONGEST_TEXT:,}")
    if unreadable.search(text):
        raise ValueError(f"{what} is {_json(text)}, which holds a character that no text has")


def _texts(key: str, values: list[Any]) -> tuple[str, ...]:
    for value in values:
        if type(value) is not str:
            raise ValueError(f"field {key} holds {_json(value)}, not text")
        _check_text(f"a text of field {key}", value)
    return tuple(values)


def _bag_text(value: Any) -> BagText:
    try:
        weight, name = value.get("weight", 1.0), value.get("name")
        # An equal text was checked before.
        return _shared[value["text"], value.get("source", "hand"), weight, name]
    except (KeyError, TypeError, AttributeError):
        if type(value) is not dict:
            raise ValueError(f'field texts holds {_json(value)}, not {{"text": ...}}') from None
    text: Any = value.get("text")
    source: Any = value.get("source", "hand")
    for key, part in (("text", text), ("source", source)):
        if type(part) is not str:
            raise ValueError(f"field texts: {key} is {_json(part)}, not text")
        _check_text(f"field texts: {key}", part)
    if not text.strip():
        raise ValueError("field texts: text is empty")
    name = value.get("name")
    if name is not None and (type(name) is not str or not name.strip()):
        raise ValueError(f"field texts: name is {_json(name)}, not a name")
    return bag_text(text, source, _weight("texts", value.get("weight", 1.0)), name)


def _bag_texts(key: str, values: list[Any]) -> tuple[BagText, ...]:
    return tuple(map(_bag_text, values))


def _others(key: str, values: list[Any]) -> tuple[Other, ...]:
    for value in values:
        if type(value) is not dict or type(value.get("name")) is not str:
            raise ValueError(
                f'field {key} holds {_json(value)}, not {{"name": ..., "weight": ...}}'
            )
        _check_text(f"field {key}: name", value["name"])
    return tuple(Other(v["name"], _weight(key, v.get("weight", 1.0))) for v in values)


def _weight(key: str, weight: Any) -> float:
    if type(weight) not in (int, float) or not 0 < weight < math.inf:
        raise ValueError(f"field {key}: weight is {_json(weight)}, not a number above 0")
    return float(weight)


# How the lists of each kind of row are read.
_LISTS: dict[Any, Callable[[str, list[Any]], tuple[Any, ...]]] = {
    Phrases: _texts,
    Caption: _texts,
    Bag: _bag_texts,
    Match: _others,
}


def _json(value: Any) -> str:
    """Return the beginning of a value as JSON, for messages."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _to_json(row: Any) -> str:
    # Not dataclasses.asdict, which copies every text of a bag and takes longer than parsing the captions.
    data = {f.name: getattr(row, f.name) for f in fields(row)}
    if isinstance(row, Bag):
        data["texts"] = [_text_to_json(t) for t in row.texts]
    elif isinstance(row, Match):
        data["others"] = [other._asdict() for other in row.others] or None
    data = {name: value for name, value in data.items() if value is not None}
    return json.dumps(data, ensure_ascii=False)


def _text_to_json(text: BagText) -> dict[str, Any]:
    data: dict[str, Any] = {"text": text.text, "source": text.source}
    if text.weight != 1:
        data["weight"] = text.weight
    return data if text.name is None else {**data, "name": text.name}


def iterate_jsonl(path: Path, cls: type[Row]) -> Iterator[Row]:
    """Yield the rows of a table. Raises MaxiError with the line's number when a line is malformed."""
    first_lines: dict[str, str] = {}  # of each video
    for where, value in read_json_lines(path):
        try:
            row = _from_json(cls, value)
        except ValueError as error:
            raise MaxiError(
                f"{where}: not a row of this table ({error}); mend or remove the line"
            ) from error
        video = getattr(row, _ONE_ROW_EACH.get(cls, ""), None)
        if video is not None and (first := first_lines.setdefault(video, where)) is not where:
            raise MaxiError(
                f"{where}: video {video!r} stands on line {first.rpartition(':')[2]} already; remove one of them"
            )
        yield row


def read_jsonl(path: Path, cls: type[Row]) -> list[Row]:
    """Read the rows of a table as a list; see `iterate_jsonl`."""
    return list(iterate_jsonl(path, cls))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write a table so that it is whole or not there."""
    write_text(path, (line for row in rows for line in (_to_json(row), "\n")))


class Journal:
    """Rows written one by one while a long stage runs, so that an interruption costs one row only.

    `done` holds all rows so far, also those that an interrupted stage with the same `key` wrote before. A half-written
    last line is dropped.
    """

    def __init__(self, path: Path, cls: type[Any], key: str) -> None:
        self.path = path
        self.done: list[Any] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps({"key": key})
        if whole := self._take_over(cls, head):
            os.truncate(path, whole)
        else:
            write_text(path, [head, "\n"])
        self._file = path.open("a", encoding="utf-8", errors=ESCAPED)

    def _take_over(self, cls: type[Any], head: str) -> int:
        """Read the rows into `done`, and return how many bytes hold whole rows of this key; 0 for another key."""
        if not self.path.is_file():
            return 0
        # As bytes, because a text may hold other characters that end a line, and the last character may be cut.
        with self.path.open("rb") as file:
            line = file.readline()
            if not line.endswith(b"\n") or line.strip() != head.encode():
                return 0
            whole = len(line)
            for line in file:
                try:
                    row = _from_json(cls, parse_json(line))
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self.done.append(row)
                whole += len(line)
        return whole

    def add(self, row: Any) -> None:
        """Append a row to `done` and to the file."""
        self.done.append(row)
        self._file.write(_to_json(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays for a stage that goes on."""
        self._file.close()
