"""Studies: rows are trained once each, and sentences follow from the intervals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.method.shares import read_shares
from maxi.progress import silent
from maxi.records import Match, Video
from maxi.run import Run
from maxi.settings import changed, load_config
from maxi.studies import training
from maxi.studies.collection import Sizes, Split
from maxi.studies.outcome import difference, sentences, summary, table, warned
from maxi.studies.replacements import permuted_names, true_matches
from maxi.studies.run import run_studies
from maxi.studies.study import STATED, Claim, Row, Study
from maxi.studies.table import STUDIES

TINY = Sizes(pool=48, unseen=32, known=24)
QUICK = "epochs=1 batch_size=8 train.n_frames=2 match.n_frames=2 eval.n_frames=2 caption.n_frames=2"


def record(row: str, right: str, seed: int = 0) -> dict[str, Any]:
    top1 = 100 * right.count("1") / max(1, len(right))
    return {
        "world": "even",
        "row": row,
        "split": "unseen",
        "metric": "top-1",
        "seed": seed,
        "value": top1,
        "parts": right,
        "n": len(right),
    }


PAIR = Study("Which?", "Table 0", {"a": Row(published="1.0"), "b": Row()}, [Claim("a", "b")])


def test_one_seed_is_paired_over_its_videos() -> None:
    rights = {"frozen": "0" * 40, "a": "1" * 30 + "0" * 10, "b": "1" * 10 + "0" * 30}
    records = [record(row, right) for row, right in rights.items()]
    found = difference(records, "unseen", "a", "b")
    assert found.gain == pytest.approx(50)
    assert found.verdict == "agrees"
    assert difference(records, "unseen", "b", "a").verdict == "disagrees"
    (sentence,) = sentences(PAIR, records)
    assert sentence.startswith("“a” over “b”: +50.0 [")
    assert sentence.endswith("so the direction agrees.")
    same = [record(row, "01" * 20) for row in rights]
    assert sentences(PAIR, same)[0].endswith("cannot be told at this size.")


def test_several_seeds_have_an_interval_over_their_differences() -> None:
    records = [
        record(row, "1" * (n + seed) + "0" * (20 - n - seed), seed)
        for row, n in (("frozen", 5), ("a", 9), ("b", 7))
        for seed in range(3)
    ]
    found = difference(records, "unseen", "a", "b")
    assert found == pytest.approx((10, 10, 10))  # the same in all seeds
    rows = {row["row"]: row for row in summary(PAIR, records)}
    assert rows["a"]["splits"]["unseen"]["gain"] == pytest.approx(20)
    assert "gain" not in rows["frozen"]["splits"]["unseen"]
    written = table(PAIR, records)
    assert "| a | 50.0 | +20.0 [+20.0, +20.0] | 1.0 |" in written
    assert "Seeds 0, 1, 2; 20 videos of unseen each." in written


@pytest.mark.parametrize("name", STUDIES)
def test_rows_have_valid_settings_and_claims_name_rows(name: str) -> None:
    study, config = STUDIES[name], load_config(backbone="miniature")
    for row in study.rows.values():
        changed(config, row.settings)
    for claim in study.claims:
        assert {claim.better, claim.worse} <= {"frozen", *study.rows}
    assert {row.start for row in study.rows.values()} <= {"", *study.rows}


def test_settings_are_changed_by_their_names() -> None:
    config = load_config(backbone="miniature")
    assert changed(config, {}) == config
    assert changed(config, {"train.objective": "nce"}).train.objective == "nce"
    with pytest.raises(MaxiError, match="unknown setting"):
        changed(config, {"train.objectives": "nce"})


def test_replaced_matches() -> None:
    rows = [Match(v, "x", 0.5, False) for v in "abc"]
    truth, names = {"a": "x", "b": "y", "c": "elsewhere"}, ["x", "y"]
    assert [(m.video, m.name, m.kept) for m in true_matches(rows, truth, names, 0)] == [
        ("a", "x", True),
        ("b", "y", True),
    ]
    assert {m.name for m in permuted_names(rows, truth, names, 0)} == {"y"}


def test_a_study_on_videos_of_ones_own(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    words = ["-q", "study", "bagsize", "control", "-o", str(tmp_path / "out")]
    words += ["--videos", str(videos), "--actions", str(actions), "--eval", str(videos)]
    words += ["--backbone", f"clip:{tiny_clip}", "-s", "lr=1e-3"]
    words += [word for setting in QUICK.split() for word in ("-s", setting)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    assert "## How many texts of a bag does a step need?" in done.stdout.splitlines()
    records = json.loads((tmp_path / "out" / "bagsize" / "results.json").read_text())
    assert [r["row"] for r in records] == ["frozen", "1", "4", "8", "16"]
    assert {len(r["parts"]) for r in records} == {8}
    assert len({r["conditions"]["videos"] for r in records}) == 1
    page = (tmp_path / "out" / "bagsize" / "table.html").read_text()
    assert "77.88 / 51.09 / 71.24" in page
    assert (tmp_path / "out" / "bagsize" / "figure.svg").read_text().startswith("<svg xmlns=")
    # Rows that are equal, here 16 texts and `adapted`, are one run; nothing is trained again.
    runs = sorted((tmp_path / "out" / "seed-0" / "rows").iterdir())
    assert len(runs) == 3 + 1 + 3
    written = {
        run: (run / "training.json").stat().st_mtime_ns
        for run in runs
        if (run / "training.json").is_file()
    }
    assert CliRunner().invoke(main, words).exit_code == 0
    assert {run: (run / "training.json").stat().st_mtime_ns for run in written} == written
    other = CliRunner().invoke(main, [*words, "-s", "lr=1e-4"])
    assert other.exit_code == 1
    assert "was made with other overrides; choose another folder" in other.stderr


def test_what_is_missing_is_told(videos: Path, actions: Path, tmp_path: Path) -> None:
    words = ["-q", "study", "-o", str(tmp_path / "out")]
    unknown = CliRunner().invoke(main, [*words, "objectives"])
    assert unknown.exit_code == 1
    assert "objective" in unknown.stderr
    assert CliRunner().invoke(main, [*words, "keep", "--videos", str(videos)]).exit_code == 2
    wrong = CliRunner().invoke(main, [*words, "keep", "--backbone", "objects"])
    assert "the rendered world is for the backbone miniature" in wrong.stderr


@pytest.mark.slow
def test_the_paper_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """Killed while it renders and while it trains; every kind of row is there at the end."""
    names = ["domains", "fewshot", "dictionary", "ensemble", "rivals"]
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from maxi.progress import silent\n"
        "from maxi.studies.collection import Sizes, Split\n"
        "from maxi.studies.paper import write_paper\n"
        "if __name__ == '__main__':\n"
        f"    write_paper(Path('paper.md'), Path('runs'), {names}, seeds=1, jobs=2,\n"
        f"        overrides={QUICK.split()}, sizes=Sizes{tuple(TINY)}, progress=silent)\n"
    )

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, program], cwd=tmp_path, stderr=subprocess.DEVNULL)

    for sign in ("unseen/unseen/*.mp4", "even/rows/*/training.json"):
        running = start()
        while not list((tmp_path / "runs" / "seed-0").glob(sign)):
            assert running.poll() is None
            time.sleep(0.1)
        running.kill()
        running.wait()
        written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("rows/*/training.json")}
    assert start().wait() == 0
    assert {p: p.stat().st_mtime_ns for p in written} == written
    page = (tmp_path / "paper.md").read_text()
    for name in names:
        assert STUDIES[name].title in page
        assert f"(paper/{name}.svg)" in page
        assert (tmp_path / "paper" / f"{name}.svg").is_file()
    assert "| Does the gain hold in other domains? |" in page
    assert "unseen two actions, mAP" in page


@pytest.mark.slow
def test_a_study_of_untidy_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ("centred, untrained", "even shares assumed, transductive", "adapted")
    study = STUDIES["collections"]
    few = replace(
        study,
        rows={name: study.rows[name] for name in rows},
        claims=study.claims[:2],
        worlds=("a third occurs", "off-list"),
    )
    monkeypatch.setitem(STUDIES, "collections", few)
    run_studies(
        ["collections"], tmp_path, jobs=1, overrides=QUICK.split(), sizes=TINY, progress=silent
    )
    records = json.loads((tmp_path / "results.json").read_text())
    splits = {world: {r["split"] for r in records if r["world"] == world} for world in few.worlds}
    assert splits == {
        "a third occurs": {"unseen", "unseen, its shares", "known"},
        "off-list": {"unseen", "known"},
    }
    by_row = {r["row"]: r for r in records if r["world"] == "off-list"}
    assert 0 < by_row["adapted"]["matched"] < 67  # a third shows nothing that is listed
    written = (tmp_path / "table.md").read_text()
    assert "### a third occurs" in written
    assert "the warning of few names in use" in written


@pytest.mark.slow
def test_a_study_on_the_rendered_world(tmp_path: Path) -> None:
    run_studies(
        ["keep"],
        tmp_path,
        seeds=2,
        overrides=QUICK.split(),
        sizes=TINY,
        progress=silent,
    )
    records = json.loads((tmp_path / "results.json").read_text())
    assert {(r["split"], r["seed"]) for r in records} == {
        (split, seed) for split in ("unseen", "known") for seed in (0, 1)
    }
    assert len(records) == 4 * 6
    assert "Seeds 0, 1;" in (tmp_path / "table.md").read_text()


def test_the_warnings_hit_rate_is_told() -> None:
    records = []
    for world, in_use, gained in (("even", 0.6, (5, 4)), ("a sixth occurs", 0.2, (0, 3))):
        for split, points in zip(("unseen", "known"), gained, strict=True):
            for row, right in (("frozen", 8), ("adapted", 8 + points)):
                made = record(row, "1" * right + "0" * (20 - right))
                records.append({**made, "world": world, "split": split, "in_use": in_use})
                if world != "even" and split == "unseen":
                    records.append({**records[-1], "split": "unseen, its shares"})
    assert warned(records) == (
        "With the warning of few names in use: 1 collection, 1 of which gained little; on average +0.0 points on "
        "unseen, +15.0 on known. Without the warning of few names in use: 1 collection, 0 of which gained little; "
        "on average +25.0 points on unseen, +20.0 on known."
    )


def test_map_of_one_seed_is_paired_over_the_names() -> None:
    records = [
        {**record(row, ""), "metric": "mAP", "value": np.mean(parts), "parts": parts}
        for row, parts in (("frozen", [10.0, 20.0, 30.0]), ("a", [21.0, 30.0, 41.0]))
    ]
    found = difference(records, "unseen", "a", "frozen")
    assert found.gain == pytest.approx(32 / 3)
    assert found.verdict == "agrees"


def test_labels_are_names_in_any_writing() -> None:
    names = ["salt + pepper", "Running", "juggling"]
    shown = ["Salt + pepper", "running", "running + juggling"]
    videos = [Video(str(k), f"{k}.mp4", 1, 1.0, 1, 1, label=label) for k, label in enumerate(shown)]
    assert Split("eval", videos, names).labels() == [[0], [1], [1, 2]]


def test_claims_on_videos_that_were_not_measured_are_left_out() -> None:
    study = Study("Which?", "", {"a": Row()}, [Claim("a", "frozen", "unseen far")])
    records = [record(row, "0110") for row in ("frozen", "a")]
    assert sentences(study, records) == []


def test_stated_shares_are_the_true_ones(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.actions.write_text("leaping\nrunning\nwaving\n")
    truth = {"v1": "leaping", "v2": "leaping", "v3": "running", "v4": "something else"}
    collection: Any = SimpleNamespace(run=run, truth=truth)
    settings = training._settings(Row({"match.shares": STATED, "match.tau": 0.1}), collection)
    assert settings["match.tau"] == 0.1
    shares = read_shares(Path(settings["match.shares"]), ["leaping", "running", "waving"])
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 3, 0])
