"""Exports: each form is what the tool that reads it documents."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import click
import numpy as np
import pytest

from maxi.cli import main
from maxi.reports.exports import (
    FORMS,
    Segment,
    write_fiftyone,
    write_label_studio,
    write_parquet,
    write_segments,
    write_video_folder,
)
from media import write_video

NAMES = ["running", 'say "hi" & <wave>']
SEGMENTS = [
    Segment("v0", "/videos/a.mp4", 0.0, 2.5, NAMES[1], 0.75, False),
    Segment("v0", "/videos/a.mp4", 2.5, 5.0, NAMES[0], 0.5, True),
    Segment("v1", "/videos/=b,c.mp4", 0.0, 1.0, NAMES[0], 0.9, None),
]


def test_a_csv_of_segments(tmp_path: Path) -> None:
    path = write_segments(tmp_path, SEGMENTS, NAMES)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "start", "end", "label", "score", "none"]
    assert [row["none"] for row in rows] == ["0", "1", ""]
    assert rows[0]["label"] == NAMES[1]
    assert rows[2]["video"] == "/videos/=b,c.mp4"


def test_tasks_of_label_studio_fit_their_configuration(tmp_path: Path) -> None:
    path = write_label_studio(tmp_path, SEGMENTS[2:], NAMES)
    (task,) = json.loads(path.read_text())
    (prediction,) = task["predictions"]
    (result,) = prediction["result"]
    config = ElementTree.fromstring((tmp_path / "config.xml").read_text())
    choices, player = config.find("Choices"), config.find("Video")
    assert choices is not None
    assert player is not None
    assert (result["from_name"], result["to_name"]) == (choices.get("name"), player.get("name"))
    assert choices.get("toName") == player.get("name")
    assert player.get("value") == "$video"
    assert task["data"]["video"] == "/data/local-files/?d=videos/%3Db%2Cc.mp4"
    assert [choice.get("value") for choice in choices] == NAMES
    assert result["value"]["choices"] == [NAMES[0]]


def test_windows_are_labels_on_the_timeline_of_label_studio(tmp_path: Path) -> None:
    path = write_label_studio(tmp_path, SEGMENTS, NAMES)
    windows, whole = json.loads(path.read_text())
    labels = windows["predictions"][0]["result"]
    assert [row["value"]["timelinelabels"] for row in labels] == [[NAMES[1]], [NAMES[0]]]
    ranges = [row["value"]["ranges"] for row in labels]
    assert ranges == [[{"start": 1, "end": 62}], [{"start": 63, "end": 125}]]
    assert whole["predictions"][0]["result"][0]["type"] == "choices"
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    loaded = interface.LabelInterface((tmp_path / "config.xml").read_text())
    for task in (windows, whole):
        assert loaded.validate_task(task)
        for prediction in task["predictions"]:
            assert loaded.validate_prediction(prediction)


def test_a_table_for_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    features = np.array([0.5, -0.25], dtype=np.float32)
    path = write_parquet(tmp_path, [*SEGMENTS, SEGMENTS[0]._replace(features=features)], NAMES)
    rows = parquet.read_table(path).to_pylist()
    assert [row["none"] for row in rows] == [False, True, None, False]
    assert rows[0]["features"] is None
    assert rows[3]["features"] == [0.5, -0.25]
    assert (rows[1]["start"], rows[1]["label"], rows[1]["video"]) == (2.5, NAMES[0], "v0")


def test_hugging_face_loads_the_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    clip = tmp_path / "clip.mp4"
    write_video(clip, n_frames=4)
    out = tmp_path / "out"
    out.mkdir()
    write_video_folder(out, [SEGMENTS[0]._replace(path=str(clip))], NAMES)
    loaded = datasets.load_dataset("videofolder", data_dir=str(out), split="train")
    row = loaded.cast_column("video", datasets.Video(decode=False))[0]
    assert row["label"] == NAMES[1]
    assert Path(row["video"]["path"]).read_bytes() == clip.read_bytes()


def test_temporal_detections_of_fiftyone(tmp_path: Path) -> None:
    path = write_fiftyone(tmp_path, SEGMENTS, NAMES)
    data = json.loads(path.read_text())
    assert data["classes"] == NAMES
    assert [row["label"] for row in data["labels"]["v0"]] == [1, 0]
    assert data["labels"]["v0"][0]["timestamps"] == [0.0, 2.5]
    assert data["labels"]["v0"][1]["attributes"] == {"none": True}
    assert json.loads((tmp_path / "data.json").read_text()) == {
        "v0": "/videos/a.mp4",
        "v1": "/videos/=b,c.mp4",
    }


def test_a_folder_of_videos_for_hugging_face(tmp_path: Path) -> None:
    clip = tmp_path / "a clip.MP4"
    clip.write_bytes(b"video")
    out = tmp_path / "out"
    out.mkdir()
    path = write_video_folder(out, [SEGMENTS[0]._replace(path=str(clip))], NAMES)
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"file_name": "v0.mp4", "label": NAMES[1], "score": "0.75"}
    assert (out / row["file_name"]).read_bytes() == b"video"


def test_the_command_knows_all_forms() -> None:
    (option,) = [p for p in main.commands["export"].params if p.name == "form"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(FORMS)
