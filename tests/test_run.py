"""The folder of a run: whose it is, who works in it, and what it keeps of the user's."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.config import Config
from maxi.errors import MaxiError
from maxi.progress import silent
from maxi.run import Run
from maxi.settings import dump_config, load_config
from maxi.stages.adapt import adapt
from maxi.stages.index import start_run
from maxi.stages.job import Job, open_job

CONFIG = load_config(None, ["workers=1"], backbone="miniature")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def files_of_the_user(root: Path) -> dict[str, Callable[[], Path]]:
    """Each kind of place that is not ours, by what is wrong with it."""

    def folder(**files: str) -> Path:
        place = root / "theirs"
        place.mkdir()
        for name, text in files.items():
            (place / name.replace("_", ".")).write_text(text)
        return place

    def file() -> Path:
        (root / "theirs").write_text("mine")
        return root / "theirs"

    def link_to(target: Callable[[], Path]) -> Path:
        link = root / "link"
        link.symlink_to(target())
        return link

    def inside() -> Path:
        place = root / "theirs" / "sub"
        (place / "model").mkdir(parents=True)
        (place / "model" / "config.json").write_text("mine")
        return place

    return {
        "files named as ours": lambda: folder(actions_txt="mine", manifest_jsonl="mine"),
        "other files": lambda: folder(thesis_tex="mine"),
        "settings of another program": lambda: folder(config_yaml="epochs: 3\n"),
        "empty settings": lambda: folder(config_yaml="", model_bin="mine"),
        "a file": file,
        "a link to a folder": lambda: link_to(lambda: folder(thesis_tex="mine")),
        "a link to a file": lambda: link_to(file),
        "a link to nothing": lambda: link_to(lambda: root / "nothing"),
        "a folder in it": inside,
    }


@pytest.mark.parametrize("kind", files_of_the_user(Path()))
@pytest.mark.parametrize("verb", ["adapt", "adapt --resume", "index", "index --config", "demo"])
def test_no_file_of_the_user_is_overwritten(
    kind: str, verb: str, videos: Path, actions: Path, tmp_path: Path
) -> None:
    place = files_of_the_user(tmp_path)[kind]()
    before = content(tmp_path)
    words = {
        "adapt": ["adapt", videos, "--actions", actions],
        "adapt --resume": ["adapt", videos, "--actions", actions, "--resume"],
        "index": ["index", videos, "--actions", actions],
        "index --config": ["index", videos, "--actions", actions, "--config", "few_shot"],
        "demo": ["demo"],
    }[verb]
    done = CliRunner().invoke(main, ["-q", *map(str, words), "-o", str(place)])
    assert done.exit_code == 1, done.output
    assert "unexpected" not in done.stderr
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["", "  "])
@pytest.mark.parametrize("verb", ["adapt", "index", "demo", "ensemble"])
def test_an_empty_name_is_not_the_current_folder(
    verb: str,
    name: str,
    videos: Path,
    actions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {
        "adapt": [str(videos), "--actions", str(actions)],
        "index": [str(videos), "--actions", str(actions)],
        "demo": [],
        "ensemble": ["run", "--alpha", "0.5"],
    }[verb]
    done = CliRunner().invoke(main, [verb, *words, "-o", name])
    assert done.exit_code == 2
    assert not content(tmp_path)
    with pytest.raises(MaxiError, match="name of the run's folder is empty"):
        adapt(str(videos), actions, name, CONFIG)


def test_hidden_files_do_not_fill_a_folder(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("theirs")
    (tmp_path / ".lock").write_text("theirs")
    with open_job(tmp_path, CONFIG, silent) as job:
        start_run(job, ["a", "b"])
    assert (tmp_path / ".lock").read_text() == "theirs"


def start(folder: Path, names: list[str]) -> Job:
    with open_job(folder, CONFIG, silent) as job:
        start_run(job, names)
    return job


def test_an_edited_list_of_names_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = start(tmp_path / "run", ["jump", "run"]).run
    run.actions.write_text("jump\n\nrun\nwalk\n")
    assert start(run.folder, ["jump", "run"]).names() == ["jump", "run", "walk"]
    assert "was edited by hand; it is used as it is" in caplog.text
    with pytest.raises(MaxiError, match="edited by hand, but the list of names changed"):
        start(run.folder, ["jump", "swim"])
    assert run.actions.read_text() == "jump\n\nrun\nwalk\n"
    start(run.folder, ["jump", "run", "walk"])  # the same names as in the edited list
    assert run.actions.read_text() == "jump\n\nrun\nwalk\n"


def test_another_list_of_names_replaces_one_that_was_not_edited(tmp_path: Path) -> None:
    run = start(tmp_path / "run", ["jump", "run"]).run
    assert start(run.folder, ["swim", "dive"]).names() == ["swim", "dive"]


def test_comments_in_settings_are_kept_while_these_do_not_change(tmp_path: Path) -> None:
    run = start(tmp_path / "run", ["jump", "run"]).run
    text = f"# why these\n{dump_config(CONFIG)}"
    run.config.write_text(text)
    start(run.folder, ["jump", "run"])
    assert run.config.read_text() == text


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_work_goes_on_with_a_warning(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*given: Any) -> None:
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING):
        start(tmp_path / "run", ["jump", "run"])
    assert "file system without locks" in caplog.text
    assert Run(tmp_path / "run").is_run()


def test_a_lock_that_fails_for_another_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*given: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        start(tmp_path / "run", ["jump", "run"])


def test_a_run_is_told_by_its_settings(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert not run.is_run()
    run.config.write_text("epochs: 3\n")
    assert not run.is_run()
    run.config.write_text(dump_config(Config()))
    assert run.is_run()


def test_what_a_kill_left_is_removed_by_the_next_command(tmp_path: Path) -> None:
    run = start(tmp_path / "run", ["jump", "run"]).run
    (run.folder / "eval").mkdir()
    left = ["bags.jsonl.new", "bags.jsonl.tmp", "captions.journal.tmp", "eval/manifest.jsonl.tmp"]
    kept = ["mine.tmp", "bags.jsonl", "captions.journal", "../run.tmp", "../run.new"]
    for name in (*left, *kept):
        (run.folder / name).write_text("")
    # Of two journals one is older than the record of its table, which is finished.
    for name, when in (("bags", 1), ("matches", 3)):
        (run.folder / f"{name}.jsonl.meta.json").write_text("{}")
        (run.folder / f"{name}.journal").write_text("")
        os.utime(run.folder / f"{name}.jsonl.meta.json", ns=(2, 2))
        os.utime(run.folder / f"{name}.journal", ns=(when, when))
    left, kept = [*left, "bags.journal"], [*kept, "matches.journal"]
    with open_job(run.folder, CONFIG, silent):
        pass
    assert not [name for name in left if (run.folder / name).exists()]
    assert all((run.folder / name).exists() for name in kept)
