"""Find the videos and the action names that a user gives; no other module reads the names of folders and files."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from maxi.errors import MaxiError, some
from maxi.records import Caption, read_jsonl
from maxi.text.names import listed, plain, same

EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".3gpp", ".f4v", ".mj2", ".ismv", ".insv", ".lrv",
    ".avi", ".divx", ".xvid", ".mkv", ".mk3d", ".webm", ".gif",
    ".mpg", ".mpeg", ".mpe", ".mp2v", ".mpv", ".m1v", ".m2v", ".vob", ".vro", ".tod", ".mod",
    ".ts", ".mts", ".m2ts", ".m2t", ".trp", ".tp", ".flv", ".wmv", ".asf", ".ogv", ".ogg", ".ogm",
)  # fmt: skip
"""Suffixes, in any case, of files that are taken for videos; for all formats that are decoded."""

NAME_LIMIT = 200
BOUNDS, KINETICS = ("start", "end"), ("time_start", "time_end")
"""The columns of a table that say which part of a file is meant."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that should be a video, and its label and split where the source states them.

    `start` and `end` in seconds say that only this part of the file is meant.
    """

    path: Path
    label: str | None = None
    split: str | None = None
    start: float | None = None
    end: float | None = None


def list_videos(where: str | Path) -> list[Source]:
    """List the videos of a folder, a table (`X.csv`, `X.csv:SPLIT`) or a text file of paths, or one video alone.

    The videos are not opened, and one that does not exist is listed like the others. Raises MaxiError
    when there are none.
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
    """Return which of LAYOUTS reads this path."""
    if path.is_dir():
        return "folder"
    if path.suffix.lower() == ".csv":
        return "csv"
    return "video" if path.suffix.lower() in EXTENSIONS else "list"


def _folder(root: Path, split: str | None) -> list[Source]:
    """List all videos below `root`; the name of the first sub-folder on the way to a file is its label.

    A sub-folder that cannot be read is listed itself, so that it is told among the files that cannot be read. How many
    other files there are, by suffix, is told in the log.
    """
    _refuse_split(root, split)
    sources = []
    others: Counter[str] = Counter()
    for path in walk(root):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in EXTENSIONS or path.is_dir():
            sources.append(Source(path, _readable(parts[0]) if len(parts) > 1 else None))
        else:
            others[path.suffix.lower() or "no suffix"] += 1
    told = some([f"{n} {suffix}" for suffix, n in others.most_common()])
    if not sources:
        found = f" (but {told})" if others else ""
        raise MaxiError(
            f"{root} holds no videos{found}; looked for {' '.join(EXTENSIONS)} in it and its sub-folders"
        )
    if others:
        logger.warning(
            "%s: %d files are left out, whose suffix is not of a video (%s)",
            root,
            others.total(),
            told,
        )
    return sources


def _csv(root: Path, split: str | None) -> list[Source]:
    """List the rows of a table that has a column `path`, or that has no header and holds `path,label`."""
    lines = _read_csv(root)
    columns = [cell.lower() for cell in lines[0][1]]
    if "path" in columns or "youtube_id" in columns:
        lines = lines[1:]
    elif Path(columns[0]).suffix in EXTENSIONS:
        columns = ["path", "label"]
    else:
        raise MaxiError(
            f"{root} has no column `path`, only {', '.join(columns)}; name columns in the first line"
        )
    for number, cells in lines:
        if any(cells[len(columns) :]):
            raise MaxiError(
                f"{root}:{number}: {len(cells)} cells for {len(columns)} columns; "
                "put a label that has a comma in double quotes"
            )
    rows = [(number, dict(zip(columns, cells, strict=False))) for number, cells in lines]
    if split is not None:
        rows = _rows_of_split(root, rows, split)
    if not rows:
        raise MaxiError(f"{root} names no videos; write one a line below the header")
    sources = []
    for number, row in rows:
        if "path" not in columns and row.get("youtube_id"):
            row = _of_kinetics(root, row)
        if not row.get("path"):
            raise MaxiError(f"{root}:{number}: the path is empty; fill it in or remove the line")
        label, own_split = plain(row.get("label", "")), row.get("split", "").strip()
        bounds = _bounds(f"{root}:{number}", row)
        sources.append(Source(root.parent / row["path"], label or None, own_split or None, *bounds))
    return sources


def _of_kinetics(root: Path, row: dict[str, str]) -> dict[str, str]:
    """Return a row of Kinetics' own lists with its path: a clip that was cut out, or the whole video, beside the list.

    Clips are named by the id of the video and both seconds, in the folder of the list or in one of the label's name.
    """
    video, label = row.get("youtube_id", ""), row.get("label", "")
    clip = video + _clip_ending(row)
    for folder in ("", label, label.replace(" ", "_")):
        for name in (clip, video):
            for suffix in (".mp4", ".mkv", ".webm", ".avi"):
                if (root.parent / folder / (name + suffix)).exists():
                    return {**row, "path": str(Path(folder, name + suffix))}
    return {**row, "path": f"{clip}.mp4"}  # told among the files that cannot be read


def _clip_ending(row: dict[str, str]) -> str:
    """Return how the name of a clip ends that was cut out at Kinetics' seconds, such as `_000010_000020`."""
    seconds = []
    for name in KINETICS:
        text = row.get(name, "")
        with suppress(ValueError, OverflowError):
            text = str(int(float(text)))
        seconds.append(text.zfill(6))
    return "_" + "_".join(seconds)


def _bounds(where: str, row: dict[str, str]) -> tuple[float | None, float | None]:
    """Return where a part of a video begins and ends, in seconds; None twice where the row does not say.

    Kinetics' seconds are those of the whole video, so they are no part of a clip that was cut out at them.
    """
    names = next((names for names in (BOUNDS, KINETICS) if any(row.get(n) for n in names)), None)
    if names is None:
        return None, None
    if names == KINETICS and Path(row["path"]).stem.endswith(_clip_ending(row)):
        return None, None
    try:
        start, end = (round(float(row.get(name, "")), 3) for name in names)
        if not 0 <= start < end < 1e9:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise MaxiError(
            f"{where}: {names[0]} and {names[1]} are {row.get(names[0], '')!r} and {row.get(names[1], '')!r}; give "
            "seconds, the first from 0 on and smaller than the second, or leave both empty"
        ) from error
    return start, end


def _rows_of_split(
    root: Path, rows: list[tuple[int, dict[str, str]]], split: str
) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of one split, each with the number of its line."""
    if not any("split" in row for _, row in rows):
        raise MaxiError(f"{root} has no column `split`; name the table without `:{split}`")
    rows_of_split = [(number, row) for number, row in rows if row.get("split") == split]
    if not rows_of_split:
        splits = sorted({row.get("split", "") for _, row in rows} - {""})
        raise MaxiError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
    return rows_of_split


def _list(root: Path, split: str | None) -> list[Source]:
    """List the lines of a text file: a path each, with its label after a tab where there is one."""
    _refuse_split(root, split)
    sources = []
    for number, line in _lines(root):
        path, _, label = line.partition("\t")
        if not path.strip():
            raise MaxiError(f"{root}:{number}: the path is empty; fill it in or remove the line")
        sources.append(Source(root.parent / path.strip(), plain(label) or None))
    if not sources:
        raise MaxiError(f"{root} names no videos; write one path a line")
    return sources


def _video(root: Path, split: str | None) -> list[Source]:
    """List the file itself, without a label."""
    _refuse_split(root, split)
    return [Source(root)]


LAYOUTS: dict[str, Callable[[Path, str | None], list[Source]]] = {
    "folder": _folder,
    "csv": _csv,
    "list": _list,
    "video": _video,
}


def read_names(path: str | Path) -> list[str]:
    """Read the action names of a file, in its order: one name a line, or the column `name` of a .csv table.

    What often stands around names, such as ids and bullets, is left out (`text.names.listed`), and a name is kept in
    one form (`text.names.plain`).

    Raises MaxiError when the file is missing, empty or not a text, and when a name is there twice or
    has over 200 characters.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        lines: Iterable[tuple[int, str]] = _name_column(path)
    else:
        lines = listed(list(_lines(path)), str(path))
    names: list[str] = []
    first_lines: dict[str, int] = {}  # of each name
    for number, text in lines:
        name = plain(text)
        if len(name) > NAME_LIMIT:
            raise MaxiError(
                f"{path}:{number}: a name of {len(name)} characters; shorten it to {NAME_LIMIT}"
            )
        if not name:
            continue
        if (first := first_lines.setdefault(same(name), number)) != number:
            raise MaxiError(
                f"{path}:{number}: {name!r} stands on line {first} already; remove one of them"
            )
        names.append(name)
    if not names:
        raise MaxiError(f"{path} is empty; write one action name a line")
    return names


def _name_column(path: Path) -> list[tuple[int, str]]:
    """Return the cells of the column `name`, each with the number of its line."""
    lines = _read_csv(path)
    columns = [cell.lower() for cell in lines[0][1]]
    if "name" not in columns:
        raise MaxiError(
            f"{path} has no column `name`, only {', '.join(columns)}; name columns in the first line"
        )
    column = columns.index("name")
    return [(number, cells[column]) for number, cells in lines[1:] if len(cells) > column]


def read_captions(path: Path) -> list[str]:
    """Read captions: one a line, the table `captions.jsonl` of a run, or the column `caption` or `name` of a .csv
    table.

    Raises MaxiError when the file is missing, empty or of another form.
    """
    if path.suffix.lower() == ".jsonl":
        return [text for row in read_jsonl(path, Caption) for text in row.captions]
    if path.suffix.lower() != ".csv":
        return [line for _, line in _lines(path)]
    (_, head), *rows = _read_csv(path)
    columns = [i for i, cell in enumerate(head) if cell.lower() in ("caption", "name")]
    if not columns:
        raise MaxiError(f"{path}: no column `caption` or `name`; name one of its columns so")
    return [cells[columns[0]] for _, cells in rows if len(cells) > columns[0]]


def walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order, but for hidden ones, then the folders that cannot be read.

    Each folder is entered once. Raises MaxiError when `root` itself cannot be read.
    """
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        path = Path(error.filename)
        if path == root:
            raise MaxiError(f"{root} cannot be read ({error.strerror}); change its permissions")
        unreadable.append(path)

    entered = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=note):
        status = os.stat(folder)
        # Symbolic links may lead in circles.
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and (path.is_file() or not path.exists()):
                yield path
    yield from unreadable


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, at least one, each with the number of the line on which it ends."""
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
    """Return the text of a file; raises MaxiError when it cannot be read or is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MaxiError(f"{path} does not exist; check the name") from error
    except OSError as error:
        raise MaxiError(
            f"{path} cannot be read ({error.strerror}); mend its permissions or name another file"
        ) from error
    except UnicodeDecodeError as error:
        raise MaxiError(
            f"{path} is not UTF-8 text; save it as UTF-8, with one entry a line"
        ) from error
    if "\0" in text:
        raise MaxiError(f"{path} is not a text file; give one with one entry a line")
    return text


def _refuse_split(root: Path, split: str | None) -> None:
    """Raise MaxiError when a split is asked for where there is none."""
    if split is not None:
        raise MaxiError(f"{root} has no splits; only a .csv table with a column `split` has")


def _readable(name: str) -> str:
    """Return a folder's name in words: `push_up` becomes `push up`, and bytes that are not UTF-8 become U+FFFD."""
    return plain(os.fsencode(name).decode("utf-8", "replace"))
