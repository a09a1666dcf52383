"""A vision-language model as judge: asked blind, through a server that misbehaves, and never believed over a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from maxi.cli import main
from maxi.method.judging import FEW_NAMES, Verdict, question, shortlist, verdict
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.judgements import add, judged, judged_by
from maxi.text.chat_server import KEY
from server import Server, serving
from test_adapt import run_adapt, settings

NAMES = ["running", "waving"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("MAXI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(KEY, "sk-x")
    with serving() as found:
        yield found


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"number": 2}', Verdict("name", "waving")),
        ('```json\n{"number": 1}\n```', Verdict("name", "running")),
        ("2.", Verdict("name", "waving")),
        ("2", Verdict("name", "waving")),
        ("Waving", Verdict("name", "waving")),
        ('<think>1 or 2?</think>{"number": 2}', Verdict("name", "waving")),
        ('{"number": 0}', Verdict("none")),
        ('{"number": -1}', Verdict("unsure")),
        ('{"number": 3}', Verdict("unsure")),
        ('{"number": true}', Verdict("unsure")),
        ('{"number": 1e999}', Verdict("unsure")),
        ("I'm sorry, I can't help with that.", Verdict("unsure")),
        ("", Verdict("unsure")),
        ("[" * 100_000, Verdict("unsure")),
        ("9" * 5000, Verdict("unsure")),
    ],
)
def test_replies(reply: str, expected: Verdict) -> None:
    assert verdict(reply, NAMES) == expected


def test_a_long_list_is_cut_to_the_nearest_of_both_models() -> None:
    names = [f"name {k:03d}" for k in range(FEW_NAMES + 60)]
    one, other = np.zeros((2, len(names)))
    one[50:60], other[10:20] = 1, 1
    assert shortlist(names, one, other) == names[10:20] + names[50:60]
    assert shortlist(NAMES, one, other) == NAMES


def test_the_question_shows_pictures_and_numbers() -> None:
    asked = question([np.zeros((8, 8, 3), np.uint8)] * 3, NAMES)
    text, *pictures = asked.messages[0]["content"]
    assert [part["type"] for part in pictures] == ["image_url"] * 3
    assert "1. running\n2. waving\n0. none of these\n-1. cannot tell" in text["text"]


def test_a_person_goes_before_a_model(tmp_path: Path) -> None:
    run = Run(tmp_path)
    add(run, [{"video": "v0", "kind": "name", "answer": "running"}])
    add(run, [{"video": "v0", "kind": "none", "by": "openai:big"}])
    add(run, [{"video": "v1", "kind": "none", "by": "openai:big"}])
    assert {video: row["kind"] for video, row in judged(run).items()} == {
        "v0": "name",
        "v1": "none",
    }
    assert judged_by(run, "openai:big").keys() == {"v0", "v1"}
    add(run, [{"video": "v0", "kind": "undo"}])
    assert judged(run)["v0"]["by"] == "openai:big"


def test_a_model_judges_a_run(
    server: Server, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    run = run_adapt(videos, actions, tmp_path / "run", settings(tiny_clip))
    manifest = read_jsonl(run.manifest, Video)
    add(run, [{"video": video.id, "kind": "name", "answer": "nothing"} for video in manifest])

    def judge(*words: str) -> Result:
        line = ["-q", "judge", str(run.folder), "--base-url", server.url, *words]
        return CliRunner().invoke(main, line)

    neither = judge("-n", "4")
    assert neither.exit_code == 2
    assert "give either -o FILE" in neither.stderr
    server.script = [500, '{"number": 1}', '{"number": 0}', "I'm sorry", 429]
    done = judge("--with", "openai:big", "-n", "40", "-s", "chat.parallel=1")
    assert done.exit_code == 0, done.output
    kinds = Counter(row["kind"] for row in judged_by(run, "openai:big").values())
    assert kinds["name"] == kinds["none"] == 1
    assert kinds["unsure"] == kinds.total() - 2
    assert f"{kinds.total()} videos judged" in done.stdout
    assert "2 videos that a person judged too, it says something else of 2" in done.stdout
    assert {row["by"] for row in judged(run).values()} == {"person"}
    # What was answered is not asked again.
    n_asked = len(server.asked)
    assert judge("--with", "openai:big", "-n", "1").exit_code == 0
    assert len(server.asked) <= n_asked + 1
    wrong = judge("--with", "somebody")
    assert wrong.exit_code == 1
    assert "write openai:MODEL" in wrong.stderr
