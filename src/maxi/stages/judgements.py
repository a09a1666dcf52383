"""Judgements: which of a run's videos people are asked about, and what they answered; both files only grow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxi.documents import (
    Asked,
    Judgement,
    Predicted,
    Verified,
    check_document,
    read_document,
    read_rows,
)
from maxi.errors import MaxiError
from maxi.files import csv_text, write_text
from maxi.method.asking import draw, probabilities
from maxi.models.text_embeddings import embed_names
from maxi.records import Video, iterate_jsonl, read_jsonl
from maxi.run import Run, contents, require
from maxi.stages.embedding import embed
from maxi.stages.job import Job
from maxi.text.names import same
from maxi.video.sources import list_videos

NONE, UNSURE = "none of these", "cannot tell"
"""Labels of an imported table that are no action names."""


def judged(run: Run) -> dict[str, dict[str, Any]]:
    """Return the last row of each judged video, by video id; one that was taken back is left out.

    Raises MaxiError when a row is not as `Judgement` says.
    """
    rows = {row["video"]: row for row in read_rows(run.judgements, Judgement)}
    return {video: row for video, row in rows.items() if row["kind"] != "undo"}


def add(run: Run, rows: Iterable[dict[str, Any]]) -> int:
    """Append rows to the judgements of a run, on the disk before this returns, and return how many there were.

    Raises MaxiError when a row is not as `Judgement` says, or when they cannot be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    checked = [check_document({"at": now, **row}, Judgement, "a judgement") for row in rows]
    _append(run.judgements, checked)
    return len(checked)


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            if file.tell() and not _ends_line(path):
                file.write("\n")  # an editor, or a full disk, left the last line open
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MaxiError(f"{path}: cannot be written ({error}); make room, and try again") from error


def ask(job: Job, n: int, table: Path) -> int:
    """Draw `n` times a video to ask about, write those without an answer into a table, and return their number.

    The draws and their probabilities stay in the run. Raises MaxiError when the table exists, or when the evaluation is
    older than the training.
    """
    run = job.run
    if table.exists():
        raise MaxiError(f"{table} exists, and may hold answers; choose another name")
    videos, cosines = sampled(job)
    chances = probabilities(cosines["frozen"], cosines["adapted"])
    before = len(read_rows(run.asked, Asked))
    drawn = draw(chances, n, job.config.seed, before)
    rows = [{"video": videos[i].id, "probability": float(chances[i])} for i in drawn]
    known = judged(run)
    open_ones = [videos[i] for i in dict.fromkeys(drawn) if videos[i].id not in known]
    paths = [(str(Path(video.path).resolve()), "") for video in open_ones]
    write_text(table, [csv_text([("path", "label"), *paths])])
    _append(run.asked, rows)
    return len(open_ones)


def sampled(
    job: Job, more: Iterable[str] = ()
) -> tuple[list[Video], dict[str, NDArray[np.float32]]]:
    """Return the videos on which the models are compared, with the ids in `more`, and their cosines by each model.

    Cosines are (V, K), with the run's names and test prompt; stored features are used.
    """
    run, config = job.run, job.config
    require(run.predictions, "eval", {run.training.name: contents(run.training)})
    wanted = {row["video"] for row in read_rows(run.predictions, Predicted)} | set(more)
    videos = [video for video in iterate_jsonl(run.manifest, Video) if video.id in wanted]
    cosines = {}
    for kind, folder in (("frozen", None), ("adapted", run.model)):
        model = job.model(folder)
        videos, z_v = embed(job, model, videos, config.eval.n_frames)
        cosines[kind] = z_v @ embed_names(model, job.names(), [config.eval.prompt]).T
    return videos, cosines


def weights_of(run: Run) -> dict[str, float]:
    """Return the weights of the judged videos that were drawn: one over the probability, summed over their draws."""
    weights: dict[str, float] = {}
    for row in read_rows(run.asked, Asked):
        weights[row["video"]] = weights.get(row["video"], 0.0) + 1 / row["probability"]
    rows = judged(run)
    for video, row in rows.items():
        if row.get("probability"):
            weights.setdefault(video, 1 / row["probability"])
    return {video: weight for video, weight in weights.items() if video in rows}


def import_judgements(run: Run, path: Path, by: str = "person") -> int:
    """Add the answers of a table with path and label, or of the file that the page of `maxi verify` offers.

    Raises MaxiError when the file has no answer for a video of the run.
    """
    run.existing()
    videos = read_jsonl(run.manifest, Video)
    rows = _verified(path, videos) if path.suffix.lower() == ".json" else _labelled(path, videos)
    if not rows:
        raise MaxiError(
            f"{path}: has no answer for any of the {len(videos)} videos of {run.folder}; check its paths"
        )
    return add(run, ({**row, "by": by} for row in rows))


def _labelled(path: Path, videos: Sequence[Video]) -> list[dict[str, Any]]:
    ids = {Path(video.path).resolve(): video.id for video in videos}
    rows = []
    for source in list_videos(str(path)):
        video, label = ids.get(source.path.resolve()), (source.label or "").strip()
        if video and label:
            kind = {same(NONE): "none", same(UNSURE): "unsure"}.get(same(label), "name")
            rows.append({"video": video, "kind": kind, "answer": label if kind == "name" else ""})
    return rows


def _verified(path: Path, videos: Sequence[Video]) -> list[dict[str, Any]]:
    """Return the rows of a download: the name that was right; nothing is known where both models were wrong.

    A clip was drawn from one of two heaps, those on which the models agree and those on which they do not.
    """
    data, ids = read_document(path, Verified), {video.id for video in videos}
    clips = data["judgements"]
    n_all = sum(data["strata"].values())
    rows = []
    for clip in (clip for clip in clips if clip["video"] in ids):
        of_heap = sum(other["stratum"] == clip["stratum"] for other in clips)
        size = data["strata"].get(clip["stratum"], 0)
        share = of_heap / len(clips) / size if n_all and size else None
        row = {"video": clip["video"], "probability": share}
        right = [model for model in ("adapted", "frozen") if clip[model]]
        if right:
            rows.append({**row, "kind": "name", "answer": clip["names"].get(right[0], "")})
        elif clip["adapted"] is None:
            rows.append({**row, "kind": "unsure", "answer": ""})
    return rows


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
