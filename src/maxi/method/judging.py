"""A vision-language model as judge: what it is asked about a video, and what is taken from its reply."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.files import parse_json
from maxi.method.captioning import picture
from maxi.text.chat_server import Question
from maxi.text.names import same
from maxi.text.reply_parser import said

N_FRAMES = 6
FEW_NAMES = 40  # with at most so many all are listed, otherwise the nearest of both models
NEAREST = 10  # of each model
NONE, UNSURE = 0, -1  # the numbers of none of these, and of cannot tell

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"number": {"type": "integer"}},
    "required": ["number"],
    "additionalProperties": False,
}


class Verdict(NamedTuple):
    """What a judge says of a video, as a judgement has it."""

    kind: Literal["name", "none", "unsure"]
    answer: str = ""


def shortlist(names: Sequence[str], *scores: NDArray[np.floating]) -> list[str]:
    """Return the names that are listed for a video, from the cosines (K,) of each model, in the order of `names`.

    The order shows nothing of what a model thinks.
    """
    if len(names) <= FEW_NAMES:
        return list(names)
    near = {int(k) for row in scores for k in np.argsort(-row, kind="stable")[:NEAREST]}
    return [names[k] for k in sorted(near)]


def question(frames: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> Question:
    """Return what is asked about the frames (H, W, 3) of a video, in order."""
    listed = "\n".join(f"{number}. {name}" for number, name in enumerate(names, 1))
    text = (
        f"These pictures are {len(frames)} frames of one video, in order. Which of these actions does the video show?\n"
        f"{listed}\n{NONE}. none of these\n{UNSURE}. cannot tell\n"
        'Reply with the number alone, as JSON: {"number": N}'
    )
    parts = [{"type": "text", "text": text}, *map(picture, frames)]
    return Question([{"role": "user", "content": parts}], SCHEMA, max_tokens=200)


def verdict(reply: str, names: Sequence[str]) -> Verdict:
    """Return what a reply says: a number in JSON or alone, or a listed name; anything else is no verdict."""
    text = said(reply).removeprefix("```json").strip("`").strip().removesuffix(".")
    number: Any = None
    with suppress(ValueError):
        data = parse_json(text)
        number = data.get("number") if isinstance(data, dict) else data
    if type(number) is int and number == NONE:
        return Verdict("none")
    if type(number) is int and 1 <= number <= len(names):
        return Verdict("name", names[number - 1])
    listed = {same(name): name for name in names}
    if same(text) in listed:
        return Verdict("name", listed[same(text)])
    return Verdict("unsure")
