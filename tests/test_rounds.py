"""Rounds and shares of matches in a whole run."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from maxi.errors import MaxiError
from maxi.progress import silent
from maxi.records import Match, read_jsonl
from maxi.settings import load_config
from maxi.stages.adapt import adapt
from maxi.stages.job import open_job
from maxi.stages.match import match_run

FRAMES = [f"{part}.n_frames=2" for part in ("train", "match", "eval", "caption")]
QUICK = [*FRAMES, "epochs=1", "lr=1e-3", "batch_size=8", "captioner=none", "match.tau=0.1"]


def test_a_second_round_matches_with_the_first_model(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config = load_config(None, [*QUICK, "match.rounds=3"], backbone=f"clip:{tiny_clip}")
    run = adapt(str(videos), actions, tmp_path / "run", config, progress=silent)
    second = run.round(2)
    first = second.round(1)
    one, two, three = (
        {m.video: m.score for m in read_jsonl(part.matches, Match)} for part in (first, second, run)
    )
    assert one.keys() == two.keys() == three.keys()
    assert one != two
    assert two != three
    # Every round starts from the frozen model: with the same matches it gives the same weights.
    alone = adapt(
        str(videos),
        actions,
        tmp_path / "alone",
        load_config(None, QUICK, backbone=f"clip:{tiny_clip}"),
        progress=silent,
    )
    weights = (load_file(part.model / "model.safetensors") for part in (first, alone))
    ours, theirs = weights
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    written = run.training.stat().st_mtime_ns, first.training.stat().st_mtime_ns
    adapt(str(videos), actions, run.folder, config, resume=True, progress=silent)
    assert (run.training.stat().st_mtime_ns, first.training.stat().st_mtime_ns) == written


def test_a_round_without_the_one_before_is_refused(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config = load_config(None, QUICK, backbone=f"clip:{tiny_clip}")
    run = adapt(str(videos), actions, tmp_path / "run", config, progress=silent)
    later = load_config(None, [*QUICK, "match.rounds=2"], backbone=f"clip:{tiny_clip}")
    with (
        open_job(run.folder, later, silent) as job,
        pytest.raises(MaxiError, match=r"round-1 holds no trained model.*maxi adapt.*--resume"),
    ):
        match_run(job)


@pytest.mark.parametrize("shares", ["even", "estimated", "file"])
def test_matches_come_to_shares(
    shares: str,
    videos: Path,
    actions: Path,
    tiny_clip: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = tmp_path / "shares.tsv"
    table.write_text("playing guitar\t0\nriding a horse\t1\nhigh jump\t0\n")
    value = str(table) if shares == "file" else shares
    config = load_config(
        None, [*QUICK, f"match.shares={value}", "keep=1"], backbone=f"clip:{tiny_clip}"
    )
    with caplog.at_level(logging.ERROR):
        run = adapt(str(videos), actions, tmp_path / "run", config, progress=silent)
    counts = Counter(match.name for match in read_jsonl(run.matches, Match))
    if shares == "file":
        assert counts == {"riding a horse": 8}
        table.write_text("playing guitar\t1\nriding a horse\t0\nhigh jump\t0\n")
        with open_job(run.folder, config, silent) as job:
            assert {match.name for match in match_run(job)} == {"playing guitar"}
    elif shares == "even":
        assert len(counts) == 3


def test_a_wrong_file_of_shares_is_told_before_any_video_is_read(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config = load_config(
        None, [*QUICK, f"match.shares={tmp_path / 'none.tsv'}"], backbone=f"clip:{tiny_clip}"
    )
    with pytest.raises(MaxiError, match=r"none.tsv: the shares of names cannot be read"):
        adapt(str(videos), actions, tmp_path / "run", config, progress=silent)
    assert not (tmp_path / "run" / "manifest.jsonl").exists()


def test_shares_need_a_model_that_matches() -> None:
    with pytest.raises(MaxiError, match="supervised and shares conflict"):
        load_config(None, ["match.supervised=true", "match.shares=even"], backbone="miniature")
