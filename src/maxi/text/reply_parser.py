"""Phrases out of what a language model replied, which is text from outside: JSON, lists, chatter, refusals, attacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

Kind = Literal["phrases", "refusal", "nothing"]

INSTRUCTION = "Generate {n} phrases to describe the action of {name} in simple words."
"""The paper's words (section 3.2), for any number of phrases."""

DESCRIBE = (
    "Describe in one short sentence what is to be seen in this picture and what the people in it do. "
    "Reply with the sentence alone."
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"phrases": {"type": "array", "items": {"type": "string"}}},
    "required": ["phrases"],
    "additionalProperties": False,
}

MAX_CHARACTERS = 120

_REFUSAL = re.compile(
    r"\b(?:i'?m|i am) (?:sorry|unable|not able)|\bi (?:can'?t|cannot|won'?t) |\bas an ai\b|\bapologi[sz]e\b",
    re.I,
)
_CHATTER = re.compile(
    r":\s*$|^(?:sure|certainly|of course|okay|ok|here (?:are|is)|let me|i hope|hope this|note)\b",
    re.I,
)
_ATTACK = re.compile(
    r"ignore (?:all|any|the|previous|prior)|(?:previous|prior|these) instructions|system prompt|https?:|www\.",
    re.I,
)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+")
_PLAIN = re.compile(r"[^\W_](?:[^\W_]|[\s,.'’()/&!-])*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


class Reply(NamedTuple):
    """What was found in a reply."""

    kind: Kind
    phrases: tuple[str, ...]


def parse(text: str, n: int) -> Reply:
    """At most `n` distinct phrases of a reply, as JSON or lines; kind `refusal` or `nothing` without any."""
    text = text.strip()
    found: list[str] = []
    for phrase in _texts(text):
        phrase = " ".join(phrase.split()).strip("\"'“”*_ ").rstrip(".;,")
        if _acceptable(phrase) and phrase.lower() not in (other.lower() for other in found):
            found.append(phrase)
    if found:
        return Reply("phrases", tuple(found[:n]))
    return Reply("refusal" if _REFUSAL.search(text.replace("’", "'")) else "nothing", ())


def sentence(text: str) -> str:
    """The first usable line of a reply that describes a picture; empty for a refusal."""
    for line in text.splitlines():
        line = " ".join(line.split()).strip("\"'“”*_ ")
        if line and len(line) <= 2 * MAX_CHARACTERS and _harmless(line):
            return line
    return ""


def _acceptable(phrase: str) -> bool:
    return (
        len(phrase) <= MAX_CHARACTERS and _PLAIN.fullmatch(phrase) is not None and _harmless(phrase)
    )


def _harmless(text: str) -> bool:
    """Neither chatter nor a refusal nor words meant for a model."""
    return not any(of.search(text.replace("’", "'")) for of in (_ATTACK, _CHATTER, _REFUSAL))


def _texts(text: str) -> Iterator[str]:
    start = re.search(r"[{\[]", text)
    if start:
        try:
            data, _ = json.JSONDecoder().raw_decode(text[start.start() :])
        except (ValueError, RecursionError):
            # Cut off in the middle: what is whole in it.
            quoted = _QUOTED.findall(text[start.start() :])
            yield from (phrase for phrase in quoted if phrase != "phrases")
            return
        yield from _strings(data)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0].count(",") >= 2:
        lines = re.split(r"[,;]", lines[0])
    yield from (_BULLET.sub("", line) for line in lines)


def _strings(data: Any) -> Iterator[str]:
    """The strings of a reply's JSON: a list, an object that holds one, or objects in a list."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for item in data:
            yield from _strings(item)
    elif isinstance(data, dict):
        for item in data.values():
            yield from _strings(item)
