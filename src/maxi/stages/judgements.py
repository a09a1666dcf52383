"""Judgements: what people answered of a run's videos, a file that only grows."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from maxi.documents import Asked, Judgement, Task, Verified, check_document, read_rows
from maxi.errors import MaxiError
from maxi.files import ESCAPED, read_json
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.text.names import same
from maxi.video.sources import list_videos

logger = logging.getLogger(__name__)

NONE, UNSURE = "none of these", "cannot tell"
"""Labels of an imported table that are no action names."""
MODELS = ("openai",)  # what comes before the colon in the name of a judge that is a model


def judged(run: Run) -> dict[str, dict[str, Any]]:
    """Return the last row of each judged video, by video id; one that was taken back is left out.

    The answer of a person goes before that of a model. Raises MaxiError when a row is not as `Judgement` says.
    """
    rows = _rows(run)
    return _last(row for row in rows if is_model(row["by"])) | _last(
        row for row in rows if not is_model(row["by"])
    )


def judged_by(run: Run, by: str) -> dict[str, dict[str, Any]]:
    """Return the last row of each video that one judge answered, by video id."""
    return _last(row for row in _rows(run) if row["by"] == by)


def last_of_person(run: Run) -> list[str]:
    """Return the ids of the videos that a person answered last, of the answers that hold; [] where there is none.

    They are several where the answer was given to videos that look alike, the one that was shown first.
    """
    people = {video: row for video, row in judged(run).items() if not is_model(row["by"])}
    answered = (row["video"] for row in reversed(_rows(run)) if not is_model(row["by"]))
    last = next((video for video in answered if video in people), None)
    if last is None:
        return []
    shown = people[last].get("like") or last
    return [shown, *(video for video, row in people.items() if row.get("like") == shown)]


def _rows(run: Run) -> list[dict[str, Any]]:
    """Return all judgements; what a hand-written row may leave out is filled in."""
    usual = {"answer": "", "by": "person"}
    return [{**usual, **row} for row in read_rows(run.judgements, Judgement)]


def _last(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {row["video"]: row for row in rows}
    return {video: row for video, row in found.items() if row["kind"] != "undo"}


def error_rates(run: Run) -> dict[str, tuple[int, int]]:
    """Return, by judge that is a model, of how many videos that a person answered too it says something else.

    That is (wrong, both); videos that either cannot tell do not count.
    """
    people = {video: row for video, row in judged(run).items() if not is_model(row["by"])}
    rates: dict[str, tuple[int, int]] = {}
    for by in sorted({row["by"] for row in _rows(run) if is_model(row["by"])}):
        both = [
            (row, people[video]) for video, row in judged_by(run, by).items() if video in people
        ]
        told = [pair for pair in both if "unsure" not in (pair[0]["kind"], pair[1]["kind"])]
        wrong = sum(
            (one["kind"], same(one["answer"])) != (other["kind"], same(other["answer"]))
            for one, other in told
        )
        rates[by] = wrong, len(told)
    return rates


def is_model(by: str) -> bool:
    """Return whether an answer was given by a model, as its judge's name says."""
    return by.partition(":")[0] in MODELS and ":" in by


def add(run: Run, rows: Iterable[dict[str, Any]]) -> int:
    """Append rows to the judgements of a run, on the disk before this returns, and return how many there were.

    When a video was drawn, the row says with what probability.
    Raises MaxiError when a row is not as `Judgement` says, or when they cannot be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    chances = {row["video"]: row["probability"] for row in read_rows(run.asked, Asked)}
    checked = [{"at": now, "probability": chances.get(row["video"]), **row} for row in rows]
    for row in checked:
        try:
            check_document(row, Judgement, "")
        except MaxiError as error:
            raise MaxiError(
                f"the answer for the video {row.get('video')} is of no known kind, empty, too long or no text; mend it "
                "and try again: none of these answers was kept"
            ) from error
    append(run.judgements, checked)
    return len(checked)


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows to a file of JSON lines, on the disk before this returns. Raises MaxiError when that fails."""
    try:
        with path.open("a", encoding="utf-8", errors=ESCAPED) as file:
            if file.tell() and not _ends_line(path):
                file.write("\n")  # an editor, or a full disk, left the last line open
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MaxiError(f"{path}: cannot be written ({error}); make room, and try again") from error


def import_judgements(run: Run, path: Path, by: str = "person") -> int:
    """Add the answers of a table with path and label, of the page of `maxi verify`, or of Label Studio.

    Raises MaxiError when the file has no answer for a video of the run.
    """
    run.existing()
    videos = read_jsonl(run.manifest, Video)
    rows = _from_json(path, videos) if path.suffix.lower() == ".json" else _labelled(path, videos)
    if not rows:
        raise MaxiError(
            f"{path}: has no answer for any of the {len(videos)} videos of {run.folder}; check its paths"
        )
    return add(run, ({**row, "by": by} for row in rows))


def _from_json(path: Path, videos: Sequence[Video]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise MaxiError(f"{path} does not exist; name the file with the answers")
    try:
        data = read_json(path)
        many = isinstance(data, list)
        check_document(data, list[Task] if many else Verified, str(path))
    except MaxiError as error:
        raise MaxiError(
            f"{path}: is neither the file of `maxi verify` nor a JSON export of Label Studio; give one of these, or a "
            "csv with path and label"
        ) from error
    ids = {video.id for video in videos}
    return _annotated(data, ids) if many else _verified(data, ids)


def _annotated(tasks: Sequence[dict[str, Any]], ids: set[str]) -> list[dict[str, Any]]:
    """Return the rows of Label Studio's JSON export: the choice of the last annotation that was not skipped."""
    rows = []
    for task in tasks:
        choices = [
            choice
            for annotation in task["annotations"]
            if not annotation.get("was_cancelled")
            for result in annotation["result"]
            for choice in result["value"].get("choices", [])
        ]
        if task["data"].get("id", "") in ids and choices:
            rows.append(_row(task["data"]["id"], choices[-1]))
    return rows


def _row(video: str, label: str) -> dict[str, Any]:
    kind = {same(NONE): "none", same(UNSURE): "unsure"}.get(same(label), "name")
    return {"video": video, "kind": kind, "answer": label if kind == "name" else ""}


def _labelled(path: Path, videos: Sequence[Video]) -> list[dict[str, Any]]:
    ids = {(Path(video.path).resolve(), video.start, video.end): video.id for video in videos}
    rows = []
    for source in list_videos(str(path)):
        part = source.path.resolve(), source.start, source.end
        video, label = ids.get(part), (source.label or "").strip()
        if video and label:
            rows.append(_row(video, label))
    return rows


def _verified(data: dict[str, Any], ids: set[str]) -> list[dict[str, Any]]:
    """Return the rows of a download: the name that was right; nothing is known where both models were wrong.

    What is left are the easier videos, so that they stand for no draw of the collection.
    """
    rows, n_lost = [], 0
    for clip in (clip for clip in data["judgements"] if clip["video"] in ids):
        right = [clip["names"].get(model) for model in ("adapted", "frozen") if clip[model]]
        if right and right[0]:
            rows.append(_row(clip["video"], right[0]))
        elif clip["adapted"] is None:
            rows.append(_row(clip["video"], UNSURE))
        else:
            n_lost += 1
    if n_lost:
        logger.warning(
            "%d videos on which both models are wrong have no name there; name them in a csv, since without them "
            "`maxi refine` takes the model for too sure",
            n_lost,
        )
    return rows


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
