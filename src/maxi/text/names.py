"""Action names: the one form in which they are kept, the rule by which two are the same, and lists of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from maxi.errors import MaxiError
from maxi.files import parse_json

Lines = Sequence[tuple[int, str]]
"""Numbers of lines from 1 on, and their texts."""

# Joiners carry meaning inside words of some scripts; all other format characters are invisible.
JOINERS = "\u200c\u200d"

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BULLET = re.compile(r"^\s*[-*•–]\s+")
_NUMBER = re.compile(r"^\s*\(?\d{1,5}[.):]+\s+")
_FIRST_ID = re.compile(r"^\s*(\d{1,5})[\s,;:]+(?=\S)")
_LAST_ID = re.compile(r"[\s,;:]+(\d{1,5})\s*$")
_QUOTED = re.compile(r"""^(["'“”‘’`])(.*)(["'“”‘’`])[,;]?$""")
SPLITS = {
    *("train", "training", "val", "valid", "validation", "dev"),
    *("test", "testing", "eval", "heldout", "all"),
}


def plain(name: str) -> str:
    """Return a name in the form in which it is kept: composed Unicode, blanks for underscores, nothing invisible.

    Runs of white space and control characters become one blank. Case stays as it is.
    """
    name = unicodedata.normalize("NFC", name.replace("_", " "))
    kept = (
        " " if unicodedata.category(c) == "Cc" else c
        for c in name
        if c in JOINERS or unicodedata.category(c) != "Cf"
    )
    return " ".join("".join(kept).split())


def words(name: str) -> str:
    """Return a name in CamelCase as words (`HandstandPushUps` as `Handstand Push Ups`), and any other as it is."""
    return name if " " in name else _CAMEL.sub(" ", name)


def same(name: str) -> str:
    """Return the key of a name: two names with one key are the same name.

    Case, blanks, hyphens, underscores and CamelCase make no difference, nor do Unicode's forms of one character.
    """
    folded = unicodedata.normalize("NFKC", plain(name)).casefold()
    return "".join(c for c in folded if c not in JOINERS and not c.isspace() and c not in "-‐‑–'’")


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names in alphabetical order, of those that are the same only the first."""
    return sorted({same(name): name for name in sorted(set(names), reverse=True)}.values())


def listed(lines: Lines, where: str) -> Lines:
    """Return the names of a list, one a line, without what often stands around them.

    Comments (`#`), bullets, quotes around a name, and ids that count the lines before or behind every name are left
    out. A list in JSON is read: names, or an object that maps names to ids or ids to names. Raises MaxiError,
    which names the line, for JSON of another form and for YAML's keys.
    """
    lines = [(n, text) for n, text in lines if text.strip() and not text.lstrip().startswith("#")]
    if lines and lines[0][1].lstrip()[0] in "{[":
        return _of_json("\n".join(text for _, text in lines), lines[0][0], where)
    if lines and lines[0][1].strip() == "---":
        lines = lines[1:]
    if len(lines) > 1 and lines[0][1].rstrip().endswith(":"):
        lines = lines[1:]  # the key of a list in YAML
    lines = [(n, _BULLET.sub("", text).rstrip(" \t\r,;")) for n, text in lines]
    if len(lines) > 1 and all(_NUMBER.match(text) for _, text in lines):
        lines = [(n, _NUMBER.sub("", text)) for n, text in lines]
    for pattern in (_FIRST_ID, _LAST_ID):
        ids = [match and int(match[1]) for match in (pattern.search(text) for _, text in lines)]
        if len(ids) > 1 and None not in ids and len(set(ids)) == len(ids) and _counts(ids):
            lines = [(n, pattern.sub("", text)) for n, text in lines]
    lines = [(n, _QUOTED.sub(r"\2", text.strip())) for n, text in lines]
    for number, text in lines:
        if text.strip() in {"{", "}", "[", "]", "---"} or re.match(r"^\s*[\w-]+:\s*$", text):
            raise MaxiError(
                f"{where}:{number}: {text.strip()!r} is no action name; write one name a line, and nothing else"
            )
    return lines


def _counts(ids: Sequence[Any]) -> bool:
    """Say whether numbers are ids of a list: they are dense, and begin at 0 or 1."""
    return min(ids) in (0, 1) and max(ids) - min(ids) < 2 * len(ids)


def _of_json(text: str, number: int, where: str) -> Lines:
    """Return the names in a JSON document, all under the number of its first line."""
    try:
        data = parse_json(text)
    except ValueError as error:
        raise MaxiError(
            f"{where}:{number}: looks like JSON but is not ({error}); write one name a line"
        ) from error
    names: list[Any] = []
    if isinstance(data, list):
        names = [row.get("name") if isinstance(row, dict) else row for row in data]
    elif isinstance(data, dict) and all(key.isdecimal() for key in data):
        names = [data[key] for key in sorted(data, key=int)]
    elif isinstance(data, dict) and all(isinstance(value, (int, str)) for value in data.values()):
        ids = {str(value).isdecimal() for value in data.values()}
        names = sorted(data, key=lambda name: int(data[name])) if ids == {True} else []
    if not names or not all(isinstance(name, str) for name in names):
        raise MaxiError(
            f"{where}:{number}: JSON that is neither a list of names nor ids and names; write one name a line"
        )
    return [(number + i, name) for i, name in enumerate(names)]


def no_names(labels: Sequence[str]) -> str | None:
    """Return why these labels cannot be action names, or None when they can: numbers, or names of splits."""
    distinct = {same(label) for label in labels}
    if distinct and all(label.replace(".", "").isdigit() for label in distinct):
        return "are numbers, not names"
    if distinct and distinct <= SPLITS:
        return "are names of splits, not of actions"
    return None
