"""Answers of a model for other tools: a csv, Label Studio, FiftyOne, Hugging Face's datasets, Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.files import csv_text, write_json, write_text

TASKS, CONFIG = "tasks.json", "config.xml"
CHOICE, TIMELINE, PLAYER = "action", "actions", "video"
"""The names of the choices, of the timeline and of the player in Label Studio's configuration."""
FRAME_RATE = 25  # of Label Studio's timeline, whatever the video's own


class Segment(NamedTuple):
    """What a model says of a part of a video: from `start` to `end` in seconds it shows `label`.

    `none` says that the score is too small for any of the names; None where no limit is known. `features` is the
    embedding of a whole video, z_v (D,).
    """

    video: str
    path: str
    start: float
    end: float
    label: str
    score: float
    none: bool | None
    features: NDArray[np.float32] | None = None


def write_segments(out: Path, segments: Sequence[Segment], names: Sequence[str]) -> Path:
    """Write `segments.csv` into a folder: `video,start,end,label,score,none`; the video is its path."""
    rows = [
        (s.path, s.start, s.end, s.label, s.score, "" if s.none is None else int(s.none))
        for s in segments
    ]
    path = out / "segments.csv"
    write_text(path, [csv_text([("video", "start", "end", "label", "score", "none"), *rows])])
    return path


def write_label_studio(out: Path, segments: Sequence[Segment], names: Sequence[str]) -> Path:
    """Write Label Studio's `tasks.json` with a prediction for each video, and the `config.xml` of the project.

    A video of one segment gets a choice, one of several windows a label for each on the timeline, whose frames Label
    Studio counts at `FRAME_RATE`. It reads local files below the folder that its server was started with.
    """
    by_video: dict[str, list[Segment]] = {}
    for s in segments:
        by_video.setdefault(s.video, []).append(s)
    tasks = [
        {
            "data": {
                "id": video,
                "video": f"/data/local-files/?d={quote(group[0].path.lstrip('/'))}",
                "path": group[0].path,
            },
            "predictions": [
                {
                    "model_version": "maxi",
                    "score": min(s.score for s in group),
                    "result": [_choice(group[0])] if len(group) == 1 else list(map(_label, group)),
                }
            ],
        }
        for video, group in by_video.items()
    ]
    write_json(out / TASKS, tasks)
    config = [
        "<View>",
        f'  <Video name="{PLAYER}" value="$video" frameRate="{FRAME_RATE}"/>',
        f'  <Choices name="{CHOICE}" toName="{PLAYER}" choice="single" showInline="true">',
        *(f"    <Choice value={quoteattr(name)}/>" for name in names),
        "  </Choices>",
        f'  <TimelineLabels name="{TIMELINE}" toName="{PLAYER}">',
        *(f"    <Label value={quoteattr(name)}/>" for name in names),
        "  </TimelineLabels>",
        "</View>",
    ]
    write_text(out / CONFIG, [f"{line}\n" for line in config])
    return out / TASKS


def _choice(s: Segment) -> dict[str, object]:
    part = {"from_name": CHOICE, "to_name": PLAYER, "type": "choices"}
    return {**part, "value": {"choices": [s.label]}}


def _label(s: Segment) -> dict[str, object]:
    part = {"from_name": TIMELINE, "to_name": PLAYER, "type": "timelinelabels"}
    first, last = (round(second * FRAME_RATE) for second in (s.start, s.end))
    ranges = [{"start": first + 1, "end": max(first + 1, last)}]
    return {**part, "value": {"ranges": ranges, "timelinelabels": [s.label]}}


def write_fiftyone(out: Path, segments: Sequence[Segment], names: Sequence[str]) -> Path:
    """Write `labels.json`, and `data.json` with the paths, as FiftyOne's FiftyOneTemporalDetectionDataset has them."""
    places = {name: k for k, name in enumerate(names)}
    labels: dict[str, list[dict[str, object]]] = {}
    for s in segments:
        found = {
            "label": places[s.label],
            "timestamps": [s.start, s.end],
            "confidence": s.score,
            "attributes": {} if s.none is None else {"none": s.none},
        }
        labels.setdefault(s.video, []).append(found)
    write_json(out / "data.json", {s.video: s.path for s in segments})
    write_json(out / "labels.json", {"classes": list(names), "labels": labels})
    return out / "labels.json"


def write_video_folder(out: Path, segments: Sequence[Segment], names: Sequence[str]) -> Path:
    """Write `metadata.csv` and a link to each video, as `load_dataset("videofolder")` of Hugging Face reads them.

    The files have the ids of the videos for names; of several windows a video has the first one's label. Raises
    MaxiError where the file system has no links.
    """
    rows = []
    for s in segments:
        name = s.video + Path(s.path).suffix.lower()
        if (out / name).is_symlink():
            continue  # a further window of the same video
        try:
            (out / name).symlink_to(s.path)
        except OSError as error:
            raise MaxiError(
                f"{out}: a link to a video cannot be made ({error}); choose a folder on a file system with links"
            ) from error
        rows.append((name, s.label, s.score))
    path = out / "metadata.csv"
    write_text(path, [csv_text([("file_name", "label", "score"), *rows])])
    return path


def write_parquet(out: Path, segments: Sequence[Segment], names: Sequence[str]) -> Path:
    """Write `segments.parquet`: the columns of `segments.csv`, the id, and the features of whole videos.

    Raises MaxiError when pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MaxiError(
            'parquet needs pyarrow; install it with: pip install "maxi[parquet]"'
        ) from error
    columns = {name: [getattr(s, name) for s in segments] for name in Segment._fields}
    columns["features"] = [None if row is None else row.tolist() for row in columns["features"]]
    kinds = {"features": pyarrow.list_(pyarrow.float32()), "none": pyarrow.bool_()}
    arrays = [pyarrow.array(values, kinds.get(name)) for name, values in columns.items()]
    path = out / "segments.parquet"
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=list(columns)), path)
    return path


FORMS: dict[str, Callable[[Path, Sequence[Segment], Sequence[str]], Path]] = {
    "segments.csv": write_segments,
    "label-studio": write_label_studio,
    "fiftyone": write_fiftyone,
    "videofolder": write_video_folder,
    "parquet": write_parquet,
}
