"""Find the written phrases of a name, also where the name is spelled or put in another way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError
from maxi.files import parse_json


def words_of(text: str) -> frozenset[str]:
    """Return the set of the words in a text."""
    return frozenset(text.split())


ARTICLES = words_of("a an the some my your his her their our its one's")
LIGHT_VERBS = words_of("do perform practise practice")
SUBJECTS = words_of("someone person people")


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case; `HandstandPushUps`, `push_up` and `push-up` are split."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", name.lower())


@cache
def lemma(word: str) -> str:
    """Return the base form of a gerund and the singular of a plural, other words as they are."""
    from lemminflect import getLemma

    return str(getLemma(word, "VERB" if word.endswith("ing") else "NOUN")[0])


@cache
def gerund(verb: str) -> str:
    """Return the -ing form of a verb, which may be a phrasal one ("put on")."""
    from lemminflect import getInflection

    first, *particle = verb.split()
    return " ".join([str(getInflection(first, "VBG")[0]), *particle])


def content_lemmas(name: str) -> list[str]:
    """Return the lemmas of a name without articles, `do` and a leading `person`, unless nothing else is left."""
    words = [word for word in split_words(name) if word not in ARTICLES]
    if len(words) > 1 and words[0] in SUBJECTS:
        words = words[1:]
    lemmas = [lemma(word) for word in words]
    return [word for word in lemmas if word not in LIGHT_VERBS] or lemmas


def canonical_keys(name: str) -> tuple[str, str]:
    """Return two keys, the stricter first: the letters, and the words in any order without `play`."""
    lemmas = content_lemmas(name)
    loose = [word for word in lemmas if word != "play"] or lemmas
    return "".join(lemmas), " ".join(sorted(loose))


class Phrasebook:
    """The phrases of many names, each found by the name or by a key of it or an alias that no other name has."""

    def __init__(self, rows: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        self.texts: dict[str, list[str]] = {}
        self.keys: tuple[dict[str, set[str]], ...] = ({}, {})
        for name, aliases, texts in rows:
            own = name.casefold().strip()
            self.texts.setdefault(own, []).extend(texts)
            for alias in (name, *aliases):
                for names_of_key, key in zip(self.keys, canonical_keys(alias), strict=True):
                    names_of_key.setdefault(key, set()).add(own)

    def find(self, name: str) -> list[str]:
        """Return the phrases of the one row that means this name, or [] if there is none."""
        exact = name.casefold().strip()
        if exact in self.texts:
            return self.texts[exact]
        for names_of_key, key in zip(self.keys, canonical_keys(name), strict=True):
            names = names_of_key.get(key, set()) if key else set()
            if len(names) == 1:
                return self.texts[next(iter(names))]
        return []


@cache
def shipped_book() -> Phrasebook:
    """Return the phrases that were written for this package."""
    text = (files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return Phrasebook((row["name"], row.get("aliases", ()), row["texts"]) for row in rows)


def read_book(path: Path) -> Phrasebook:
    """Read a user's phrases: {"name", "texts"} rows (.jsonl), an object of lists (.json) or `name<TAB>phrase` lines.

    A folder has a file `NAME.txt` for each name, with one phrase a line. Raises MaxiError, which names the line, for
    anything else.
    """
    if path.is_dir():
        if not (found := sorted(path.glob("*.txt"))):
            raise MaxiError(
                f"{path} holds no files such as `playing guitar.txt`; name another folder"
            )
        return Phrasebook((file.stem, (), _text_of(file).splitlines()) for file in found)
    text = _text_of(path)
    if path.suffix.lower() == ".json":
        return Phrasebook(_object_rows(path, text))
    read_row = _json_row if path.suffix.lower() == ".jsonl" else _tab_row
    lines = enumerate(text.splitlines(), 1)
    return Phrasebook(read_row(f"{path}:{number}", line) for number, line in lines if line.strip())


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MaxiError(
            f"{path}: cannot be read as UTF-8 text ({error}); name an existing file"
        ) from error


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
        data = parse_json(text)
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
        data = parse_json(line)
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
