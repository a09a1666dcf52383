"""The page on which matches and bags are mended: its edits go into the files that stages read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from maxi.app.desk import Desk
from maxi.app.uploads import UnknownError
from maxi.errors import MaxiError
from maxi.files import given_path, write_text
from maxi.method.bags import read_weights
from maxi.records import Bag, Match, write_jsonl
from maxi.settings import changed
from maxi.stages.status import stale
from maxi.text.clean import clean

PAGE = 20  # rows
WEIGHTS = "weights.txt"
HAND = "hand"

Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Wanted(BaseModel):
    """Which rows the page shows: those with a text, of some matches, in an order."""

    text: Annotated[str, Field(max_length=1000)] = ""
    matches: Literal["all", "kept", "left out", "hand"] = "all"
    order: Literal["score", "-score", "list"] = "score"
    page: Annotated[int, Field(ge=0, le=10**6)] = 0


class Weighed(BaseModel):
    """A text, and the weight that it is to have in all bags; 0 drops it, and 1 is that of any text."""

    text: Text
    weight: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class Corrected(BaseModel):
    """The right name of a video, and whether it is trained on."""

    video: str
    name: Text
    kept: bool = True


def rows(desk: Desk, data: Wanted) -> dict[str, Any]:
    """Return some rows: a video's match, and the texts of its bag with their weights."""
    run = desk.run
    matches = desk.table(run.matches, Match)
    bags = {bag.video: bag for bag in desk.table(run.bags, Bag)}
    weights = _weights(desk)
    key = clean(data.text).lower()
    found = [m for m in matches if m.video in desk.videos and _is_wanted(m, data.matches)]
    if key:
        found = [m for m in found if key in _words(desk, m, bags.get(m.video))]
    if data.order != "list":
        found.sort(key=lambda m: m.score, reverse=data.order == "-score")
    first = data.page * PAGE
    return {
        "n": len(found),
        "page": data.page,
        "n_pages": -(-len(found) // PAGE),
        "rows": [
            {
                "video": m.video,
                "path": desk.videos[m.video].path,
                "name": m.name,
                "score": round(m.score, 3),
                "kept": m.kept,
                "source": m.source or "",
                "texts": [
                    {"text": t.text, "source": t.source, "weight": weights.get(t.text, 1.0)}
                    for t in (bags[m.video].texts if m.video in bags else ())
                ],
            }
            for m in found[first : first + PAGE]
        ],
    }


def _is_wanted(match: Match, kind: str) -> bool:
    return {
        "all": True,
        "kept": match.kept,
        "left out": not match.kept,
        "hand": match.source is not None,
    }[kind]


def _words(desk: Desk, match: Match, bag: Bag | None) -> str:
    texts = [t.text for t in bag.texts] if bag else []
    return "\n".join([match.name, desk.videos[match.video].path, *texts]).lower()


def _weights(desk: Desk) -> dict[str, float]:
    """Return the weights of texts that the settings name; {} where they name none."""
    setting = desk.job.config.bag.weights
    return read_weights(given_path(setting)) if setting else {}


def weigh(desk: Desk, data: Weighed) -> dict[str, Any]:
    """Give a text a weight in all bags: in `weights.txt` of the run, which begins with what `bag.weights` named.

    A file elsewhere is never written, since the run's settings, which name it, may be somebody else's. Returns what is
    to be run again. Raises MaxiError when another command works in the run.
    """
    text = clean(data.text)
    if not text:
        raise MaxiError("the text is empty; write one")
    with desk.locked():
        weights = _weights(desk)
        weights.pop(text, None)
        if data.weight != 1:
            weights[text] = data.weight
        path = (desk.run.folder / WEIGHTS).resolve()
        write_text(path, (f"{text}\t{weight:g}\n" for text, weight in weights.items()))
        if desk.job.config.bag.weights != str(path):
            desk.job.config = changed(desk.job.config, {"bag.weights": str(path)})
            desk.job.save_settings()
    return to_rerun(desk)


def correct(desk: Desk, data: Corrected) -> dict[str, Any]:
    """Give a video another match, which is noted as made by hand; return what is to be run again.

    Raises MaxiError when another command works in the run.
    """
    name = " ".join(data.name.split())
    if not name:
        raise MaxiError("the name is empty; write one")
    with desk.locked():
        matches = desk.table(desk.run.matches, Match)
        places = {m.video: place for place, m in enumerate(matches)}
        if data.video not in places:
            raise UnknownError("the run has no match of this video; load the page again")
        old = matches[places[data.video]]
        matches[places[data.video]] = Match(
            old.video, name, old.score, data.kept, old.others if old.name == name else (), HAND
        )
        write_jsonl(desk.run.matches, matches)
    return to_rerun(desk)


def to_rerun(desk: Desk) -> dict[str, Any]:
    """Return why stages are to be run again, and the commands for it."""
    with desk.models:
        why, verbs = stale(desk.job)
    return {"why": why, "commands": [f"maxi {verb} {desk.run.folder}" for verb in verbs]}
