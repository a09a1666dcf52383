from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from maxi.cli import main
from maxi.files import read_json
from maxi.progress import silent
from maxi.run import Run
from maxi.stages.adapt import adapt
from test_adapt import settings


@pytest.fixture(scope="module")
def finished(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("runs") / "mine"
    return adapt(
        str(videos), actions, out, settings(tiny_clip), labelled=str(videos), progress=silent
    )


def call(*words: object) -> str:
    done = CliRunner().invoke(main, ["-q", "ensemble", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_curve_goes_through_both_models(finished: Run) -> None:
    told = call(finished.folder).splitlines()
    assert told[1].endswith("frozen")
    assert len(told) == 8
    rows = {r["alpha"]: r for r in read_json(finished.folder / "ensemble.json")["rows"]}
    results = {r["model"]: r for r in read_json(finished.results) if r["split"] == "all"}
    for alpha, model in ((0.0, "frozen"), (0.8, "adapted")):
        for key in ("top1", "top5", "n", "per_class"):
            assert rows[alpha][key] == results[model][key], (model, key)


def test_any_ratio_is_written_as_a_model(finished: Run, tmp_path: Path) -> None:
    call(finished.folder, "--alpha", 0.8, "-o", tmp_path / "same")
    found = load_file(tmp_path / "same" / "model.safetensors")
    for name, tensor in load_file(finished.model / "model.safetensors").items():
        assert torch.equal(found[name], tensor), name


def test_a_ratio_does_not_overwrite_what_is_there(finished: Run, tmp_path: Path) -> None:
    theirs = tmp_path / "mine" / "config.json"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    words = ["-q", "ensemble", str(finished.folder), "--alpha", "0.5", "-o", str(theirs.parent)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in theirs.parent.iterdir()] == ["config.json"]
    assert theirs.read_text() == "mine"


def test_ratios_of_several_views(finished: Run) -> None:
    call(finished.folder, "-s", "eval.n_clips=2")
    assert read_json(finished.folder / "ensemble.json")["conditions"]["views"].startswith("2 clips")


def test_what_is_missing_is_told(finished: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    shutil.rmtree(run.folder / "checkpoints")
    done = CliRunner().invoke(main, ["-q", "ensemble", str(run.folder)])
    assert done.exit_code == 1
    assert "no fine-tuned weights in checkpoints/" in done.stderr
    shutil.rmtree(run.eval.folder)
    done = CliRunner().invoke(main, ["-q", "ensemble", str(run.folder)])
    assert "has no labelled videos; name some with --on" in done.stderr
    done = CliRunner().invoke(main, ["ensemble", str(run.folder), "--alpha", "0.5"])
    assert done.exit_code == 2


@pytest.mark.slow
def test_the_frozen_end_has_no_temporal_attention(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    """Its row is the frozen model's of the evaluation; the other end attends as it was trained."""
    config = settings(tiny_clip, "temporal_blocks=2", "alpha=1")
    run = adapt(
        str(videos), actions, tmp_path / "run", config, labelled=str(videos), progress=silent
    )
    call(run.folder)
    rows = {r["alpha"]: r for r in read_json(run.folder / "ensemble.json")["rows"]}
    results = {r["model"]: r for r in read_json(run.results) if r["split"] == "all"}
    for alpha, model in ((0.0, "frozen"), (1.0, "adapted")):
        assert rows[alpha]["per_class"] == results[model]["per_class"]
    for alpha, blocks in ((0, 0), (1, 2)):
        call(run.folder, "--alpha", alpha, "-o", tmp_path / str(alpha))
        assert read_json(tmp_path / str(alpha) / "maxi.json").get("temporal_blocks", 0) == blocks
    done = CliRunner().invoke(main, ["convert", str(run.folder), str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "attend across frames, which no other layout can express" in done.stderr
    assert not (tmp_path / "out").exists()
