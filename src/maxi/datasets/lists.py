"""Read the lists of datasets as they are handed around: `path label` rows, and names as `id,name` tables."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from maxi.errors import MaxiError

MAX_BYTES = 1 << 28  # of an inflated list; the longest of the field has 20 MB


class Item(NamedTuple):
    """A video of a list: its path as the list writes it, and its labels as indices into the names of the split."""

    path: str
    labels: tuple[int, ...]


def read_items(path: Path, n_names: int) -> list[Item]:
    """Read rows of a path and one or more ids, separated by white space; an id that is repeated in a row counts once.

    Raises MaxiError with the line of a row without ids, of an id from outside 0 to `n_names` - 1, and of a path that
    stands on an earlier line too.
    """
    items: list[Item] = []
    first_lines: dict[str, int] = {}
    for number, line in lines_of(path):
        name, *ids = line.split()
        try:
            labels = tuple(dict.fromkeys(int(i) for i in ids))
        except ValueError:
            labels = ()
        if not labels or min(labels) < 0 or max(labels) >= n_names:
            raise MaxiError(
                f"{path}:{number}: {line.strip()[:80]!r} is not a path and ids from 0 to {n_names - 1}; "
                "check that list and names belong together"
            )
        if (first := first_lines.setdefault(name, number)) != number:
            raise MaxiError(
                f"{path}:{number}: {name} stands on line {first} already; remove one of them"
            )
        items.append(Item(name, labels))
    if not items:
        raise MaxiError(f"{path} names no videos; copy the list again")
    return items


def read_id_names(path: Path) -> list[str]:
    """Read an `id,name` table, whose ids count from 0 on. Raises MaxiError where they do not, or a name comes twice."""
    rows = table_of(path)
    names = [row.get("name", "").strip() for row in rows]
    ids = [row.get("id", "").strip() for row in rows]
    if not rows or not all(names):
        raise MaxiError(f"{path} is no table with the columns id and name; copy it again")
    if ids != [str(n) for n in range(len(ids))]:
        wrong = next(n for n, i in enumerate(ids) if i != str(n))
        raise MaxiError(
            f"{path}: the id of row {wrong + 1} is {ids[wrong]!r} and not {wrong}; order the rows by their ids"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MaxiError(f"{path}: the name {twice!r} comes twice; copy the table again")
    return names


def table_of(path: Path) -> list[dict[str, str]]:
    """Read a csv table with a header, its columns in lower case."""
    reader = csv.reader(io.StringIO(text_of(path)))
    rows = [row for row in reader if any(cell.strip() for cell in row)]
    columns = [cell.strip().lower() for cell in rows[0]] if rows else []
    return [dict(zip(columns, row, strict=False)) for row in rows[1:]]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1 on."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.strip():
            yield number, line


def text_of(path: Path) -> str:
    """Return the text of a list, which may be gzipped. Raises MaxiError when it cannot be read or is no UTF-8 text."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MaxiError(f"{path} cannot be read ({error}); copy the list again") from error
    if len(content) > MAX_BYTES:
        raise MaxiError(f"{path} has more than {MAX_BYTES} bytes and is no list; name another")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MaxiError(f"{path} is not UTF-8 text; copy the list again") from error


def indexed(rows: Sequence[tuple[str, str]], names: Sequence[str], path: Path) -> list[Item]:
    """Return rows of a path and a name as items. Raises MaxiError for a name that is none of the names."""
    ids = {name: n for n, name in enumerate(names)}
    for video, name in rows:
        if name not in ids:
            raise MaxiError(
                f"{path}: {video} has the label {name!r}, which is none of the names; "
                "check that list and names belong together"
            )
    return [Item(video, (ids[name],)) for video, name in rows]
