"""Answers of a model for other tools: a csv, Label Studio, FiftyOne, Hugging Face's datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from maxi.errors import MaxiError
from maxi.files import csv_text, write_json, write_text

TASKS, CONFIG = "tasks.json", "config.xml"
CHOICE, PLAYER = "action", "video"
"""The names of the choices and of the player in Label Studio's configuration."""


class Segment(NamedTuple):
    """What a model says of a part of a video: from `start` to `end` in seconds it shows `label`.

    `none` says that the score is too small for any of the names; None where no limit is known.
    """

    video: str
    path: str
    start: float
    end: float
    label: str
    score: float
    none: bool | None


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

    Label Studio reads local files below the folder that its server was started with.
    """
    tasks = [
        {
            "data": {
                "id": s.video,
                "video": f"/data/local-files/?d={quote(s.path.lstrip('/'))}",
                "path": s.path,
            },
            "predictions": [
                {
                    "model_version": "maxi",
                    "score": s.score,
                    "result": [
                        {
                            "from_name": CHOICE,
                            "to_name": PLAYER,
                            "type": "choices",
                            "value": {"choices": [s.label]},
                        }
                    ],
                }
            ],
        }
        for s in segments
    ]
    write_json(out / TASKS, tasks)
    choices = [f"    <Choice value={quoteattr(name)}/>" for name in names]
    config = [
        "<View>",
        f'  <Video name="{PLAYER}" value="$video"/>',
        f'  <Choices name="{CHOICE}" toName="{PLAYER}" choice="single" showInline="true">',
        *choices,
        "  </Choices>",
        "</View>",
    ]
    write_text(out / CONFIG, [f"{line}\n" for line in config])
    return out / TASKS


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

    The files have the ids of the videos for names. Raises MaxiError where the file system has no links.
    """
    rows = []
    for s in segments:
        name = s.video + Path(s.path).suffix.lower()
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


FORMS: dict[str, Callable[[Path, Sequence[Segment], Sequence[str]], Path]] = {
    "segments.csv": write_segments,
    "label-studio": write_label_studio,
    "fiftyone": write_fiftyone,
    "videofolder": write_video_folder,
}
