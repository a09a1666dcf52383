"""Read the phrases, or the one sentence, in a reply of a language model.

A reply is text from outside and not to be trusted: it may be JSON, a list, chatter, a refusal or an attack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Literal, NamedTuple

Kind = Literal["phrases", "refusal", "nothing"]

INSTRUCTION = "Generate {n} phrases to describe the action of {name} in simple words."
"""The paper asks a language model in these words (section 3.2), here for any number of phrases."""

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
MAX_BRACKETS = 50  # of chatter, at which JSON is looked for

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
# What a model thinks before it answers; a section without an end is all thought, one without a beginning as well.
_THOUGHT = re.compile(
    r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)|\A.*</(?:think|thinking|thought|reasoning)>",
    re.I | re.S,
)
_BULLET = re.compile(r"^\s*(?:[-*•–]|[(\[]?\d{1,2}[.):\]])\s+")
_PLAIN = re.compile(r"[^\W_](?:[^\W_]|[\s,.'’()/&!-])*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


class Reply(NamedTuple):
    """The phrases of a reply and its kind; only the kind `phrases` has any."""

    kind: Kind
    phrases: tuple[str, ...]


def parse(text: str, n: int) -> Reply:
    """Return at most `n` distinct phrases of a reply, which may be JSON or lines of text.

    A reply without a usable phrase is of the kind `refusal` when it reads like one, else `nothing`.
    """
    text = said(text)
    phrases: list[str] = []
    for phrase in _texts(text):
        phrase = " ".join(phrase.split()).strip("\"'“”*_ ").rstrip(".;,")
        if _acceptable(phrase) and phrase.lower() not in (other.lower() for other in phrases):
            phrases.append(phrase)
    if phrases:
        return Reply("phrases", tuple(phrases[:n]))
    return Reply("refusal" if _REFUSAL.search(text.replace("’", "'")) else "nothing", ())


def said(text: str) -> str:
    """Return a reply without what the model thinks before it answers."""
    return _THOUGHT.sub("", text).strip()


def sentence(text: str) -> str:
    """Return the first usable line of a reply that describes a picture, or "" if there is none."""
    for line in said(text).splitlines():
        line = " ".join(line.split()).strip("\"'“”*_ ")
        if line and len(line) <= 2 * MAX_CHARACTERS and _harmless(line):
            return line
    return ""


def _acceptable(phrase: str) -> bool:
    return (
        len(phrase) <= MAX_CHARACTERS and _PLAIN.fullmatch(phrase) is not None and _harmless(phrase)
    )


def _harmless(text: str) -> bool:
    """Tell whether a text is neither chatter nor a refusal nor an order to another model."""
    text = text.replace("’", "'")
    return not any(pattern.search(text) for pattern in (_ATTACK, _CHATTER, _REFUSAL))


def _texts(text: str) -> Iterator[str]:
    """Yield the single texts of a reply: the strings of its JSON, else its lines."""
    for start in islice(re.finditer(r"[{\[]", text), MAX_BRACKETS):
        with suppress(ValueError, RecursionError):
            data, _ = json.JSONDecoder().raw_decode(text, start.start())
            if strings := list(_strings(data)):
                yield from strings
                return
    if cut := re.search(r'[{\[]\s*"', text):
        # The reply was cut off in the middle: the strings before the cut are whole.
        quoted = _QUOTED.findall(text, cut.start())
        yield from (phrase for phrase in quoted if phrase != "phrases")
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0].count(",") >= 2:
        lines = re.split(r"[,;]", lines[0])
    yield from (_BULLET.sub("", line) for line in lines)


def _strings(data: Any) -> Iterator[str]:
    """Yield all strings of a reply's JSON, however deep they lie in its lists and objects."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for item in data:
            yield from _strings(item)
    elif isinstance(data, dict):
        for item in data.values():
            yield from _strings(item)
