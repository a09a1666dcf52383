"""Files that are whole or not there, JSON documents, and digests."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from maxi.errors import MaxiError

# A file name that is not UTF-8 holds lone surrogates. Written as `\\udcff` they are valid JSON and can be read back.
ESCAPED = "backslashreplace"


LONGEST_LINE = 1 << 22  # bytes of a row of a table


def cache_folder() -> Path:
    """Return the folder for what all runs of a user share: `MAXI_CACHE`, else `maxi` in the user's cache folder."""
    if own := os.environ.get("MAXI_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxi"


def given_path(text: str) -> Path:
    """Return the path that a setting names; `~` is the home folder, and blanks around the path are none of it."""
    return Path(os.path.expanduser(text.strip()))


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write text through a temporary file in the same folder, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer, since several may write one file at the same time.
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with part.open("w", encoding="utf-8", errors=ESCAPED) as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class WithoutLocksError(OSError):
    """A file system, such as some network ones, has no locks."""


def try_lock(path: Path) -> IO[str]:
    """Lock a file, which is made where it is missing, until the returned file is closed.

    Raises BlockingIOError when another holds the lock, and WithoutLocksError.
    """
    file = path.open("a", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no flock
        pass
    except OSError as error:
        file.close()
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP):
            raise WithoutLocksError(*error.args) from error
        raise
    return file


def refuse_full(folder: Path) -> None:
    """Raise MaxiError when something is there that writing a folder could overwrite: a file, or a folder with files.

    A folder that has nothing but hidden files, such as `.DS_Store`, counts as empty.
    """
    if str(folder) in ("", "."):
        raise MaxiError("-o names no folder; pass the name of a new one")
    if os.path.lexists(folder) and not folder.is_dir():
        raise MaxiError(f"{folder} is there and is no folder; choose another -o")
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise MaxiError(
            f"{folder} is not empty; choose a new folder, so that nothing in it is overwritten"
        )


def write_json(path: Path, data: Any) -> None:
    """Write one JSON document atomically."""
    write_text(path, [json.dumps(data, ensure_ascii=False, indent=1), "\n"])


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV; no spreadsheet takes one of their texts for a formula, which it would run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(value) if isinstance(value, str) else value for value in row])
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def note_options(path: Path, options: dict[str, Any]) -> None:
    """Note the options of what is to lie in a folder, in a file of it. Raises MaxiError when it holds other ones."""
    if not path.exists():
        refuse_full(path.parent)
    noted = read_json(path) if path.exists() else options
    if not isinstance(noted, dict) or not noted.keys() >= options.keys():
        raise MaxiError(f"{path} is not of this command; choose another folder")
    if different := [key for key in options if noted[key] != options[key]]:
        raise MaxiError(
            f"{path.parent} was made with other {' and '.join(different)}; choose another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, options)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError when it is malformed, too deep, or holds NaN or Infinity."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("too many brackets inside each other") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def read_json(path: Path) -> Any:
    """Read one JSON document. Raises MaxiError when it is missing or malformed."""
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MaxiError(
            f"{path} does not exist; run the stage that writes it, or `maxi adapt`"
        ) from error
    except ValueError as error:
        raise MaxiError(
            f"{path}: not valid JSON ({error}); remove it and run the stage again"
        ) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the value of each line that is not blank, with `path:number` for messages.

    Raises MaxiError when the file is missing or a line is malformed or longer than any row.
    """
    if not path.is_file():
        raise MaxiError(f"{path} does not exist; run the stage that writes it, or `maxi adapt`")
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), 1):
            where = f"{path}:{number}"
            if len(line) > LONGEST_LINE:
                raise MaxiError(f"{where}: longer than {LONGEST_LINE} bytes; shorten its texts")
            if not line.strip():
                continue
            try:
                value = parse_json(line)  # as bytes: UTF-8 with or without a byte order mark
            except UnicodeDecodeError as error:
                raise MaxiError(f"{where}: not UTF-8 text; save the file as UTF-8") from error
            except ValueError as error:
                raise MaxiError(
                    f"{where}: not valid JSON ({error}); mend or remove the line"
                ) from error
            yield where, value


def digest(*parts: Any) -> str:
    """Return a short, stable name of JSON-like values: 16 hex digits of their sha256."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return 16 hex digits of a file's sha256."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()[:16]
