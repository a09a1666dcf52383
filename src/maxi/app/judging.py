"""The page on which a person judges videos: which come next, what was answered, and what that tells of both models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from maxi.app.desk import Desk
from maxi.documents import Asked, read_rows
from maxi.errors import MaxiError
from maxi.method.refinement import FEWEST
from maxi.records import Video
from maxi.stages.asking import estimate, to_ask, undecided, weights_of
from maxi.stages.judgements import add, judged, last_of_person

AHEAD = 4  # videos that the page is told of: the one that is shown, and three to be loaded before
KEYS = 9  # names with a key of their own
ALIKE = 0.97  # cosine of the frozen features of videos that are nearly the same
MOST_ALIKE = 24

Name = Annotated[str, Field(max_length=1000)]
Id = Annotated[str, Field(max_length=100)]


class Answered(BaseModel):
    """An answer of the page: for a video, and for those in `also` that are like it."""

    video: Id
    kind: Literal["name", "none", "unsure"]
    answer: Name = ""
    also: Annotated[list[Id], Field(max_length=MOST_ALIKE)] = []
    skip: list[Id] = []


class Shown(BaseModel):
    """What a page of judging asks for: the next videos, but for those that are skipped; `more` raises the goal."""

    skip: list[Id] = []
    more: Annotated[int, Field(ge=0, le=1000)] = 0


def answer(desk: Desk, data: Answered) -> dict[str, Any]:
    """Keep an answer, which is on the disk when this returns; return the next videos, and what the models had said."""
    videos = [desk.video(video) for video in dict.fromkeys([data.video, *data.also])]
    row = {"kind": data.kind, "answer": data.answer.strip()}
    alike = [{"video": video.id, "like": data.video, **row} for video in videos[1:]]
    with desk.files:
        add(desk.run, [{"video": data.video, **row}, *alike])
    return shown(desk, Shown(skip=data.skip)) | {"told": _told(desk, videos[0], data)}


def undo(desk: Desk, data: Shown) -> dict[str, Any]:
    """Take the last answer of a person back, also for videos that are alike; its video comes next again."""
    with desk.files:
        last = last_of_person(desk.run)
        add(desk.run, [{"video": video, "kind": "undo"} for video in last])
    return shown(desk, data, first=last[0] if last else "")


def shown(desk: Desk, data: Shown, first: str = "") -> dict[str, Any]:
    """Return the next videos to be judged, how many are, and the estimates of both models' accuracy."""
    with desk.files:
        desk.goal += data.more
        left, n, problem = undecided(desk.run, desk.sample), _n_answered(desk), ""
        if len(left) < min(AHEAD, desk.goal - n) and n < len(desk.sample.videos):
            try:
                with desk.locked():
                    to_ask(desk.job, desk.sample, desk.goal - n)
            except MaxiError as error:  # answers are kept all the same
                problem = str(error)
            left = undecided(desk.run, desk.sample)
        rows, weights = judged(desk.run), weights_of(desk.run)
    wanted = [video for video in left if video.id not in data.skip]
    if first in desk.videos:
        wanted = [desk.videos[first], *(video for video in wanted if video.id != first)]
    return {
        "clips": [_clip(desk, video, rows) for video in wanted[:AHEAD]],
        "n": n,
        "goal": desk.goal,
        "skipped": len(data.skip),
        "estimate": estimate(rows, weights, desk.sample, desk.names),
        "fewest": FEWEST,
        "problem": problem,
    }


def _n_answered(desk: Desk) -> int:
    drawn = {row["video"] for row in read_rows(desk.run.asked, Asked)}
    return len(judged(desk.run).keys() & drawn)


def _clip(desk: Desk, video: Video, rows: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a video before it is answered: nothing of what a model said of it."""
    return {
        "video": video.id,
        "seconds": round(video.seconds, 1),
        "names": _shortlist(desk, video),
        "alike": [other for other in _alike(desk, video) if other not in rows],
    }


def _shortlist(desk: Desk, video: Video) -> list[str]:
    """Return the names that have a key: the nearest of both models, in the order of the list, which shows nothing."""
    if len(desk.names) <= KEYS or video.id not in desk.places:
        return desk.names[:KEYS]
    place = desk.places[video.id]
    near = [np.argsort(-desk.sample.cosines_of(kind, place)) for kind in desk.sample.z_v]
    best = dict.fromkeys(int(k) for pair in zip(*near, strict=True) for k in pair)
    return [desk.names[k] for k in sorted(list(best)[:KEYS])]


def _alike(desk: Desk, video: Video) -> list[str]:
    """Return the ids of the videos that look nearly the same as a video of the sample, the nearest first."""
    if video.id not in desk.places:
        return []
    z_v = desk.sample.z_v["frozen"]
    cosines = z_v @ z_v[desk.places[video.id]]
    order = np.argsort(-cosines)[: MOST_ALIKE + 1]
    videos = [desk.sample.videos[i].id for i in order if cosines[i] >= ALIKE]
    return [other for other in videos if other != video.id]


def _told(desk: Desk, video: Video, data: Answered) -> dict[str, Any]:
    """Return what was answered, and what both models say: that is shown when it can sway nobody any more."""
    said = {"name": data.answer.strip(), "none": "none of these", "unsure": "cannot tell"}
    told = {"answer": said[data.kind], "path": video.path, "n_also": len(data.also)}
    if video.id in desk.places:
        for kind in desk.sample.z_v:
            best = int(desk.sample.cosines_of(kind, desk.places[video.id]).argmax())
            told[kind] = desk.names[best]
    return told
