"""Where videos and action names come from: the one module that reads names of folders and files."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from maxi.errors import MaxiError

EXTENSIONS = (
    *(
        ".mp4",
        ".avi",
        ".mkv",
        ".webm",
        ".mov",
        ".gif",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
    ),
    *(".flv", ".wmv", ".asf", ".ogv", ".3gp"),
)
BLOCK = 64 * 1024
NAME_LIMIT = 200
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # nobody sees them in a name, but tokenizers do


@dataclass(frozen=True, slots=True)
class Source:
    """A file that should be a video, and its label where the source states one."""

    path: Path
    label: str | None = None


def list_videos(where: str | Path) -> list[Source]:
    """List what a folder, a table (`X.csv`, `X.csv:SPLIT`) or a text file of paths holds, or one video.

    Files are not opened; one that does not exist is listed like the others. Raises MaxiError when
    there are none.
    """
    path, split = Path(where), None
    if not path.exists():
        table, colon, name = str(where).rpartition(":")
        if colon and table.lower().endswith(".csv"):
            path, split = Path(table), name
    if not path.exists():
        raise MaxiError(
            f"{path} does not exist; name a folder of videos, a .csv table or a text file of paths,"
            " or one video"
        )
    return LAYOUTS[_layout(path)](path, split)


def _layout(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if path.suffix.lower() == ".csv":
        return "csv"
    return "video" if path.suffix.lower() in EXTENSIONS else "list"


def _folder(root: Path, split: str | None) -> list[Source]:
    """All videos below `root`; the first sub-folder on the way to a file is its label."""
    _refuse_split(root, split)
    sources = []
    for path in _walk(root):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in EXTENSIONS:
            sources.append(Source(path, _readable(parts[0]) if len(parts) > 1 else None))
    if not sources:
        raise MaxiError(
            f"{root} holds no videos; looked for {' '.join(EXTENSIONS)} in it and its sub-folders"
        )
    return sources


def _csv(root: Path, split: str | None) -> list[Source]:
    """The rows of a table with a column `path`, or without header as `path,label`."""
    rows = _read_csv(root)
    head = [cell.lower() for cell in rows[0][1]]
    if "path" in head:
        rows = rows[1:]
    elif Path(head[0]).suffix in EXTENSIONS:
        head = ["path", "label"]
    else:
        raise MaxiError(
            f"{root} has no column `path`, only {', '.join(head)}; name columns in the first line"
        )
    table = [(number, dict(zip(head, cells, strict=False))) for number, cells in rows]
    if split is not None:
        table = _of_split(root, table, split)
    if not table:
        raise MaxiError(f"{root} names no videos; write one a line below the header")
    sources = []
    for number, row in table:
        if not row.get("path"):
            raise MaxiError(f"{root}:{number}: the path is empty; fill it in or remove the line")
        sources.append(Source(root.parent / row["path"], _collapse(row.get("label", "")) or None))
    return sources


def _of_split(
    root: Path, table: list[tuple[int, dict[str, str]]], split: str
) -> list[tuple[int, dict[str, str]]]:
    if not any("split" in row for _, row in table):
        raise MaxiError(f"{root} has no column `split`; name the table without `:{split}`")
    kept = [(number, row) for number, row in table if row.get("split") == split]
    if not kept:
        known = sorted({row.get("split", "") for _, row in table} - {""})
        raise MaxiError(f"{root} has no split {split!r}; it has {', '.join(known)}")
    return kept


def _list(root: Path, split: str | None) -> list[Source]:
    """One path a line, with its label after a tab where there is one."""
    _refuse_split(root, split)
    sources = []
    for number, line in _lines(root):
        path, _, label = line.partition("\t")
        if not path.strip():
            raise MaxiError(f"{root}:{number}: the path is empty; fill it in or remove the line")
        sources.append(Source(root.parent / path.strip(), _collapse(label) or None))
    if not sources:
        raise MaxiError(f"{root} names no videos; write one path a line")
    return sources


def _video(root: Path, split: str | None) -> list[Source]:
    """The file itself, without a label."""
    _refuse_split(root, split)
    return [Source(root)]


LAYOUTS: dict[str, Callable[[Path, str | None], list[Source]]] = {
    "folder": _folder,
    "csv": _csv,
    "list": _list,
    "video": _video,
}


def video_id(path: str | Path) -> str:
    """Name a file by its size and its first, middle and last 64 KiB: 16 hex digits of sha256.

    The same content has the same id under any name. Raises MaxiError with the plain reason when
    the file cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited on for ever
            raise MaxiError("not a file")
        name = hashlib.sha256(str(status.st_size).encode())
        with open(path, "rb") as file:
            for start in (0, (status.st_size - BLOCK) // 2, status.st_size - BLOCK):
                file.seek(max(0, start))
                name.update(file.read(BLOCK))
    except FileNotFoundError as error:
        raise MaxiError("does not exist") from error
    except OSError as error:
        raise MaxiError(f"cannot be read ({error.strerror})") from error
    return name.hexdigest()[:16]


def read_names(path: str | Path) -> list[str]:
    """Read an action list, in its order: one name a line, or the `name` column of a .csv.

    Raises MaxiError for a file that is missing, empty or no text, and for a name that is there
    twice or has over 200 characters.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        names: Iterable[tuple[int, str]] = _name_column(path)
    else:
        names = _lines(path)
    first: dict[str, int] = {}
    kept = []
    for number, name in ((number, _collapse(text)) for number, text in names):
        if len(name) > NAME_LIMIT:
            raise MaxiError(
                f"{path}:{number}: a name of {len(name)} characters; shorten it to {NAME_LIMIT}"
            )
        if not name:
            continue
        if (seen := first.setdefault(name.casefold(), number)) != number:
            raise MaxiError(
                f"{path}:{number}: {name!r} stands on line {seen} already; remove one of them"
            )
        kept.append(name)
    if not kept:
        raise MaxiError(f"{path} is empty; write one action name a line")
    return kept


def _name_column(path: Path) -> list[tuple[int, str]]:
    rows = _read_csv(path)
    head = [cell.lower() for cell in rows[0][1]]
    if "name" not in head:
        raise MaxiError(
            f"{path} has no column `name`, only {', '.join(head)}; name columns in the first line"
        )
    column = head.index("name")
    return [(number, cells[column]) for number, cells in rows[1:] if len(cells) > column]


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order, without hidden ones; enter a folder once."""

    def complain(error: OSError) -> None:
        raise MaxiError(
            f"{error.filename} cannot be read ({error.strerror}); mend its permissions or move it"
        )

    entered = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=complain):
        here = os.stat(folder)
        # Symbolic links may lead in circles.
        if (here.st_dev, here.st_ino) in entered:
            below.clear()
            continue
        entered.add((here.st_dev, here.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and (path.is_file() or not path.exists()):
                yield path


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, one or more, with the number of the line each ends on."""
    reader = csv.reader(io.StringIO(_read_text(path)), strict=True)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise MaxiError(
            f"{path}:{reader.line_num}: not a table ({error}); mend the line"
        ) from error
    if not rows:
        raise MaxiError(f"{path} is empty; write a header and one row a line")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1 on."""
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MaxiError(f"{path} does not exist; check the name") from error
    except OSError as error:
        raise MaxiError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MaxiError(
            f"{path} is not UTF-8 text; save it as UTF-8, with one entry a line"
        ) from error
    if "\0" in text:
        raise MaxiError(f"{path} is not a text file; give one with one entry a line")
    return text


def _refuse_split(root: Path, split: str | None) -> None:
    if split is not None:
        raise MaxiError(f"{root} has no splits; only a .csv table with a column `split` has")


def _readable(name: str) -> str:
    """A folder's name as words, `push_up` as `push up`; what is no UTF-8 in it breaks tokenizers."""
    return _collapse(os.fsencode(name).decode("utf-8", "replace").replace("_", " "))


def _collapse(text: str) -> str:
    return " ".join(CONTROL.sub(" ", text).split())
