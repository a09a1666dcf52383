"""Answers of people: a file that only grows, and a refinement of a run that `maxi classify` uses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from maxi.cli import main
from maxi.documents import Asked, read_rows
from maxi.errors import MaxiError
from maxi.records import Video, read_jsonl, write_jsonl
from maxi.run import Run
from maxi.stages.asking import weights_of
from maxi.stages.judgements import (
    add,
    error_rates,
    import_judgements,
    judged,
    last_of_person,
)
from test_adapt import run_adapt, settings


def maxi(*words: object) -> Result:
    return CliRunner().invoke(main, ["-q", *map(str, words)])


def answer(video: str, kind: str = "name", name: str = "") -> dict[str, Any]:
    return {"video": video, "kind": kind, "answer": name}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = Run(tmp_path / "run")
    found.folder.mkdir()
    found.config.write_text("backbone: miniature\n")
    rows = [Video(f"v{i}", str(tmp_path / f"{i}.mp4"), 6, 10.0, 64, 48) for i in range(4)]
    write_jsonl(found.manifest, rows)
    return found


def test_the_last_answer_counts_and_can_be_taken_back(run: Run) -> None:
    assert judged(run) == {}
    add(run, [answer("v0", name="running"), answer("v1", "none")])
    add(run, [answer("v0", name="walking"), answer("v1", "undo")])
    assert {video: row["answer"] for video, row in judged(run).items()} == {"v0": "walking"}
    assert len(run.judgements.read_text().splitlines()) == 4  # nothing is ever lost
    assert judged(run)["v0"]["at"]


def test_a_last_line_that_is_open_is_ended_first(run: Run) -> None:
    run.judgements.write_text(json.dumps(answer("v0", name="running")))
    add(run, [answer("v1", "unsure")])
    assert [row["kind"] for row in judged(run).values()] == ["name", "unsure"]


def test_a_row_that_is_none_is_told(run: Run) -> None:
    with pytest.raises(MaxiError, match="of no known kind"):
        add(run, [answer("v0", "maybe")])
    assert not run.judgements.exists()
    run.judgements.write_text('{"video": 3}\n')
    with pytest.raises(MaxiError, match=r"judgements\.jsonl:1"):
        judged(run)


def test_a_table_is_imported(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    table.write_text(
        "path,label\n0.mp4,Running\n1.mp4,none of these\n2.mp4,cannot tell\n9.mp4,walking\n3.mp4,\n"
    )
    assert import_judgements(run, table, "expert") == 3
    assert [(row["kind"], row["answer"], row["by"]) for row in judged(run).values()] == [
        ("name", "Running", "expert"),
        ("none", "", "expert"),
        ("unsure", "", "expert"),
    ]
    table.write_text("path,label\n9.mp4,walking\n")
    with pytest.raises(MaxiError, match="has no answer for any of the 4 videos"):
        import_judgements(run, table)


def test_the_page_of_verify_is_imported(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def clip(video: str, frozen: bool | None, adapted: bool | None) -> dict[str, Any]:
        names = {"frozen": "running", "adapted": "walking"}
        return {"video": video, "frozen": frozen, "adapted": adapted, "names": names}

    clips = [
        clip("v0", False, True),
        clip("v1", True, False),
        clip("v2", False, False),  # which name is right, nobody said
        clip("v3", None, None),
        clip("gone", True, True),
    ]
    page = tmp_path / "judgements.json"
    page.write_text(json.dumps({"strata": {"agree": 90, "disagree": 10}, "judgements": clips}))
    assert import_judgements(run, page) == 3
    assert [(v, row["kind"], row["answer"]) for v, row in judged(run).items()] == [
        ("v0", "name", "walking"),
        ("v1", "name", "running"),
        ("v3", "unsure", ""),
    ]
    assert "1 videos on which both models are wrong have no name there" in caplog.text
    assert weights_of(run) == {}  # only the easier videos have a name, so they stand for nothing


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "3",
        "garbage",
        '[{"data": {}, "annotations": [{"result": 3}]}]',
        '[{"data": {"id": []}, "annotations": []}]',
        '[{"data": {"id": "v0"}, "annotations": [{"result": [{"value": {"choices": "x"}}]}]}]',
    ],
)
def test_other_json_is_refused_and_nothing_is_written(
    run: Run, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(MaxiError, match="neither the file of `maxi verify` nor a JSON export"):
        import_judgements(run, path)
    assert not run.judgements.exists()


def test_strange_names_are_kept_or_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "some.json"

    def choose(name: str) -> None:
        result = [{"value": {"choices": [name]}}]
        path.write_text(json.dumps([{"data": {"id": "v0"}, "annotations": [{"result": result}]}]))

    choose("läuft")
    assert import_judgements(run, path) == 1
    assert "läuft" in judged(run)["v0"]["answer"]
    for name in (" ", "x" * 1001, "\ud800"):
        choose(name)
        with pytest.raises(
            MaxiError, match="the answer for the video v0 is of no known kind, empty"
        ):
            import_judgements(run, path)
    assert len(run.judgements.read_text().splitlines()) == 1


def test_annotations_of_label_studio_are_imported(run: Run, tmp_path: Path) -> None:
    def task(video: str, *choices: str, **more: Any) -> dict[str, Any]:
        result = [{"type": "choices", "value": {"choices": [choice]}} for choice in choices]
        return {"id": 7, "data": {"id": video}, "annotations": [{"result": result, **more}]}

    other = {"type": "videorectangle", "value": {"sequence": []}}
    tasks = [
        task("v0", "running"),
        task("v1", "cannot tell"),
        task("v2", "walking", was_cancelled=True),
        {"data": {"id": "v3"}, "annotations": [{"result": [other]}]},
        task("gone", "running"),
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    assert import_judgements(run, path, "label-studio") == 2
    assert [(v, row["kind"], row["answer"]) for v, row in judged(run).items()] == [
        ("v0", "name", "running"),
        ("v1", "unsure", ""),
    ]


def test_the_last_answer_of_a_person_is_found(run: Run) -> None:
    assert last_of_person(run) == []
    add(run, [answer("v0", "none"), answer("v1", "none"), answer("v0", name="running")])
    add(run, [answer("v2", "none") | {"by": "openai:some"}])
    assert last_of_person(run) == ["v0"]
    add(run, [answer("v0", "undo")])
    assert last_of_person(run) == ["v1"]
    add(run, [answer("v3", "none"), answer("v0", "none") | {"like": "v3"}])
    assert last_of_person(run) == ["v3", "v0"]
    add(run, [answer(video, "undo") for video in ("v3", "v0", "v1")])
    assert last_of_person(run) == []


def test_the_errors_of_a_model_are_measured_where_a_person_judged_too(run: Run) -> None:
    videos = [f"v{i}" for i in range(3)]
    model = "openai:some"
    add(run, [answer(video, name="running") | {"by": model} for video in videos])
    assert error_rates(run) == {model: (0, 0)}
    add(run, [answer("v0", name="Running"), answer("v1", "none"), answer("v2", "unsure")])
    assert error_rates(run) == {model: (1, 2)}


def test_a_run_is_refined_and_classify_uses_it(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run_adapt(videos, actions, out, settings(tiny_clip))
    none_yet = maxi("refine", out)
    assert none_yet.exit_code == 1
    assert "answer at least 10" in none_yet.stderr
    ask = tmp_path / "ask.csv"
    asked = maxi("judge", out, "-n", "20", "-o", ask)
    assert asked.exit_code == 0, asked.output
    with ask.open(newline="") as file:
        open_ones = list(csv.DictReader(file))
    assert {row["label"] for row in open_ones} == {""}
    assert len({row["path"] for row in open_ones}) == len(open_ones) > 4
    assert len(Run(out).asked.read_text().splitlines()) == 20
    again = maxi("judge", out, "-o", ask)
    assert again.exit_code == 1
    assert "may hold answers" in again.stderr
    more = maxi("judge", out, "-n", str(len(open_ones)), "-o", tmp_path / "more.csv")
    assert more.stdout.startswith(f"{len(open_ones)} videos to name")  # the same: none is answered
    assert len(Run(out).asked.read_text().splitlines()) == 20
    names = actions.read_text().splitlines()
    manifest = read_jsonl(Run(out).manifest, Video)
    table = tmp_path / "answers.csv"
    with table.open("w", newline="") as file:
        rows = [(video.path, names[i % 2]) for i, video in enumerate(manifest)]
        csv.writer(file).writerows([("path", "label"), *rows])
    added = maxi("import", out, table)
    assert added.stdout == "8 answers are added; 8 videos of the run are judged\n"
    monkeypatch.setattr("maxi.method.refinement.FEWEST", 8)
    refined = maxi("refine", out)
    assert refined.exit_code == 0, refined.output
    assert "8 videos are judged, 8 of them with a name of the run" in refined.stdout
    weights = weights_of(Run(out))
    drawn = {row["video"]: row["probability"] for row in read_rows(Run(out).asked, Asked)}
    assert weights.keys() == drawn.keys()
    assert {v: row["probability"] for v, row in judged(Run(out)).items() if v in drawn} == drawn
    assert all(weights[video] >= 1 / chance for video, chance in drawn.items())

    assert maxi("report", out).exit_code == 0
    assert "What your answers tell" in Run(out).report.read_text()

    clip = manifest[0].path
    first = json.loads(maxi("classify", clip, "--model", out, "--json").stdout)
    plain = json.loads(maxi("classify", clip, "--model", out, "--json", "--plain").stdout)
    assert plain["is_none"] is None
    assert dict(zip(first["names"], first["cosines"], strict=True)) == dict(
        zip(plain["names"], plain["cosines"], strict=True)
    )
    assert first["scores"] != plain["scores"]
    other = tmp_path / "other.txt"
    other.write_text("sleeping\nreading\n")
    asked = maxi("classify", clip, "--model", out, "--actions", other, "--json")
    assert json.loads(asked.stdout)["names"]

    for form, file in (("segments.csv", "segments.csv"), ("label-studio", "tasks.json")):
        written = maxi("export", out, "--to", form, "-o", tmp_path / form)
        assert written.stdout == f"{tmp_path / form / file} is written\n"
    usual = maxi("export", out)
    assert usual.stdout == f"{out / 'exports' / 'segments.csv' / 'segments.csv'} is written\n"
    assert maxi("export", out).exit_code == 1
    with (tmp_path / "segments.csv" / "segments.csv").open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert [row["video"] for row in exported] == [video.path for video in manifest]
    # The two best names are nearly equal, so another processor may have the other one first.
    shares = dict(zip(first["names"], first["scores"], strict=True))
    assert float(exported[0]["score"]) == pytest.approx(shares[exported[0]["label"]], abs=0.02)
    assert float(exported[0]["score"]) == pytest.approx(first["scores"][0], abs=0.02)
    assert {row["none"] for row in exported} <= {"", "0", "1"}
    tasks = json.loads((tmp_path / "label-studio" / "tasks.json").read_text())
    for task in tasks:  # as a person who agrees with every prediction
        task["annotations"] = [{"result": task["predictions"][0]["result"]}]
    agreed = tmp_path / "agreed.json"
    agreed.write_text(json.dumps(tasks))
    assert maxi("import", out, agreed, "--by", "label-studio").stdout.startswith("8 answers")
    assert {row["by"] for row in judged(Run(out)).values()} == {"label-studio"}
    assert maxi("export", out, "-o", tmp_path / "label-studio").exit_code == 1

    again = maxi("adapt", videos, "--actions", actions, "-o", out, "--resume", "-s", "lr=0.01")
    assert again.exit_code == 0, again.output
    assert maxi("report", out).exit_code == 0
    assert "What your answers tell" not in Run(out).report.read_text()
    stale = maxi("classify", clip, "--model", out)
    assert stale.exit_code == 1
    assert "was made for other weights" in stale.stderr
