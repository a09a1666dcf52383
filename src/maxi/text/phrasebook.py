"""Written phrases: names in canonical form, and the rows that mean the same action."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = words_of("a an the some my your his her their our its one's")
LIGHT_VERBS = words_of("do perform practise practice")
SUBJECTS = words_of("someone person people")


def split_words(name: str) -> list[str]:
    """Words of a name in lower case: `HandstandPushUps`, `push_up` and `push-up` are split."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", name.lower())


@cache
def lemma(word: str) -> str:
    """Base form of a gerund, singular of a plural; other words as they are."""
    from lemminflect import getLemma

    found = getLemma(word, "VERB" if word.endswith("ing") else "NOUN")
    return str(found[0]) if found else word


@cache
def gerund(verb: str) -> str:
    """-ing form of a verb or of the first word of a phrasal verb."""
    from lemminflect import getInflection

    first, *rest = verb.split()
    found = getInflection(first, "VBG")
    return " ".join([str(found[0]) if found else first + "ing", *rest])


def content_lemmas(name: str) -> list[str]:
    """Lemmas without articles and, where more remains, without `do` and a leading `person`."""
    words = [word for word in split_words(name) if word not in ARTICLES]
    if len(words) > 1 and words[0] in SUBJECTS:
        words = words[1:]
    lemmas = [lemma(word) for word in words]
    return [word for word in lemmas if word not in LIGHT_VERBS] or lemmas


def canonical_keys(name: str) -> tuple[str, str, str]:
    """Three keys, strictest first: letters only, words in any order, and these without `play`."""
    lemmas = content_lemmas(name)
    loose = [word for word in lemmas if word != "play"] or lemmas
    return "".join(lemmas), " ".join(sorted(lemmas)), " ".join(sorted(loose))


class Phrasebook:
    """Rows (name, aliases, texts), found by name, then alias, then unambiguous canonical form."""

    def __init__(self, rows: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        self.texts: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.keys: tuple[dict[str, set[str]], ...] = ({}, {}, {})
        for name, aliases, texts in rows:
            here = name.casefold().strip()
            self.texts.setdefault(here, []).extend(texts)
            for spelling in (name, *aliases):
                self.aliases.setdefault(spelling.casefold().strip(), here)
                for table, key in zip(self.keys, canonical_keys(spelling), strict=True):
                    table.setdefault(key, set()).add(here)

    def find(self, name: str) -> list[str]:
        """Texts of the row that means this name, or []."""
        exact = name.casefold().strip()
        if exact in self.texts:
            return self.texts[exact]
        if exact in self.aliases:
            return self.texts[self.aliases[exact]]
        for table, key in zip(self.keys, canonical_keys(name), strict=True):
            rows = table.get(key, set()) if key else set()
            if len(rows) == 1:
                return self.texts[next(iter(rows))]
        return []


@cache
def shipped_book() -> Phrasebook:
    """The phrases written for this package."""
    text = (files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return Phrasebook((row["name"], row.get("aliases", ()), row["texts"]) for row in rows)


def read_book(path: Path) -> Phrasebook:
    """Read {"name", "texts"} rows (.jsonl), an object of lists (.json) or `name<TAB>phrase` lines.

    Raises MaxiError with the line that is not one of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MaxiError(
            f"{path}: cannot be read as UTF-8 text ({error}); name an existing file"
        ) from error
    if path.suffix.lower() == ".json":
        return Phrasebook(_object_rows(path, text))
    read = _json_row if path.suffix.lower() == ".jsonl" else _tab_row
    lines = enumerate(text.splitlines(), 1)
    return Phrasebook(read(f"{path}:{number}", line) for number, line in lines if line.strip())


def _row(where: str, name: Any, aliases: Any, texts: Any) -> tuple[str, list[str], list[str]]:
    lists = (aliases, texts)
    if not isinstance(name, str) or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists
    ):
        raise MaxiError(
            f'{where}: expected a name and a list of phrases: {{"name": "...", "texts": ["..."]}}'
        )
    return name, aliases, texts


def _object_rows(path: Path, text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MaxiError(
            f"{path}: not valid JSON ({error}); rows one a line belong in a .jsonl file"
        ) from error
    if not isinstance(data, dict):
        raise MaxiError(
            f"{path}: expected one JSON object, name to phrases; rows belong in a .jsonl file"
        )
    for name, texts in data.items():
        yield _row(f"{path}: {name!r}", name, [], texts)


def _json_row(where: str, line: str) -> tuple[str, list[str], list[str]]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise MaxiError(f"{where}: not valid JSON ({error}); mend or remove the line") from error
    if not isinstance(data, dict):
        raise MaxiError(
            f'{where}: expected a row {{"name": "...", "texts": ["..."]}}; mend or remove the line'
        )
    return _row(where, data.get("name"), data.get("aliases", []), data.get("texts"))


def _tab_row(where: str, line: str) -> tuple[str, list[str], list[str]]:
    name, tab, phrase = line.partition("\t")
    if not tab:
        raise MaxiError(
            f"{where}: expected `name<TAB>phrase`; put a tab between the name and its phrase"
        )
    return name, [], [phrase]
