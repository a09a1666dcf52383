"""Training again on answers: corrected matches, figures by answers that were not seen, and no work done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from maxi.cli import main
from maxi.records import Bag, Match, Video, read_jsonl
from maxi.run import Run
from maxi.stages import retrain
from maxi.stages.judgements import add
from test_adapt import run_adapt, settings

pytestmark = pytest.mark.slow


def maxi(*words: object) -> Result:
    return CliRunner().invoke(main, ["-q", *map(str, words)])


@pytest.fixture(scope="module")
def made(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("retrain") / "run"
    run_adapt(videos, actions, out, settings(tiny_clip))
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with six answers, of which one is none of the names."""
    monkeypatch.setattr("maxi.method.refinement.FEWEST", 4)
    found = Run(shutil.copytree(made, tmp_path / "run"))
    ids = [video.id for video in read_jsonl(found.manifest, Video)]
    add(found, [{"video": video, "kind": "name", "answer": "High-Jump"} for video in ids[:5]])
    add(found, [{"video": ids[5], "kind": "none"}])
    return found


def test_answers_correct_the_matches_and_a_model_is_trained_on_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run.matches.read_bytes()
    refined = maxi("refine", run.folder, "--retrain")
    assert refined.exit_code == 0, refined.output
    assert "5 answered videos, by models that did not learn from their answers" in refined.stdout
    assert f"next:   maxi open {run.retrained.folder}" in refined.stdout
    assert run.matches.read_bytes() == before
    ids = [video.id for video in read_jsonl(run.manifest, Video)]
    matches = {match.video: match for match in read_jsonl(run.retrained.matches, Match)}
    assert {matches[video].name for video in ids[:5]} == {"high jump"}
    assert all(matches[video].kept for video in ids[:5])
    assert (matches[ids[5]].kept, matches[ids[5]].source) == (False, "answers")
    bags = {bag.video: bag.name for bag in read_jsonl(run.retrained.bags, Bag)}
    assert bags.keys() >= set(ids[:5])
    assert ids[5] not in bags
    assert run.retrained.report.exists()
    facts = json.loads((run.retrained.folder / "retrained.json").read_text())
    assert facts["n"] == 5

    trained: list[Path] = []
    train = retrain.train_run

    def counted(job: Any) -> Any:
        stamp = job.run.training.stat().st_mtime_ns
        summary = train(job)
        if job.run.training.stat().st_mtime_ns != stamp:
            trained.append(job.run.folder)
        return summary

    monkeypatch.setattr(retrain, "train_run", counted)
    again = maxi("refine", run.folder, "--retrain")
    assert again.exit_code == 0, again.output
    assert again.stdout == refined.stdout
    assert trained == []


def test_the_estimate_may_be_left_out(run: Run) -> None:
    refined = maxi("refine", run.folder, "--retrain", "--folds", "0")
    assert refined.exit_code == 0, refined.output
    assert "did not learn from" not in refined.stdout
    assert not (run.retrained.folder / "fold-1").exists()
    assert maxi("refine", run.folder, "--retrain", "--folds", "1").exit_code == 2
    clip = read_jsonl(run.manifest, Video)[0].path
    assert maxi("classify", clip, "--model", run.retrained.folder).exit_code == 0


def test_too_few_answers_are_told(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    refined = maxi("refine", folder, "--retrain")
    assert refined.exit_code == 1
    assert "answer at least 10" in refined.stderr
