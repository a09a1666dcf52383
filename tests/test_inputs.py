"""Every setting and every file that a stage reads is in the key of what it makes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.config import Config, Stage
from maxi.errors import MaxiError
from maxi.progress import silent
from maxi.records import Caption, Video, read_jsonl, write_jsonl
from maxi.run import Run
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, start_run
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from test_adapt import settings

NAMES = ["playing guitar", "riding a horse", "high jump"]
STAGES: dict[str, Callable[[Job], Any]] = {
    "expand": expand_run,
    "match": match_run,
    "caption": caption_run,
    "bag": bag_run,
    "train": train_run,
}
OUTPUTS = {"phrases", "matches", "captions", "bags", "training"}

# Read by a stage, but of no effect on what it makes.
WITHOUT_EFFECT = {
    *("device", "workers", "deadline", "index.max_skipped"),
    *("train.checkpoint_seconds", "train.keep_last", "train.wandb"),
    *("backbone", "normalisation", "resize_to"),  # they are in the fingerprint of the backbone
    "train.sigma",  # the temperature that a backbone is loaded with; training has it in its key
    "train.trainable",  # whether features before or after the head are stored; training has it in its key
    "match.supervised",  # `bag` asks it whether to warn of empty bags
    *("chat.timeout", "chat.retries", "chat.parallel", "chat.prices", "chat.max_cost"),
    "chat.max_calls",
}

opened: list[Path] | None = None


def hear(event: str, given: tuple[Any, ...]) -> None:
    if opened is not None and event == "open" and isinstance(given[0], str) and given[1] == "r":
        opened.append(Path(given[0]))


sys.addaudithook(hear)


@contextmanager
def watched(
    run: Run, config: Config, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[set[str], set[str], set[Path]]]:
    """Collect the settings that are read, the settings that are noted, and the files that are noted."""
    global opened
    read: set[str] = set()
    noted: set[str] = set()
    files: set[Path] = set()
    parts = {id(config): ""} | {
        id(part): f"{name}." for name, part in config if isinstance(part, Stage)
    }

    def getattribute(stage: Stage, name: str) -> Any:
        value = object.__getattribute__(stage, name)
        if id(stage) in parts and name in type(stage).model_fields and not isinstance(value, Stage):
            read.add(parts[id(stage)] + name)
        return value

    settings_of = Inputs.settings

    def note_settings(inputs: Inputs, part: str) -> Any:
        value = settings_of(inputs, part)
        noted.update(
            [f"{part}.{k}" for k in value.decisive()] if isinstance(value, Stage) else [part]
        )
        return value

    def noting(method: str, *fixed: Path) -> None:
        original = getattr(Inputs, method)

        def note(inputs: Inputs, *given: Any) -> Any:
            files.update(fixed or given)
            return original(inputs, *given)

        monkeypatch.setattr(Inputs, method, note)

    noting("files")
    noting("tables")
    noting("names", run.actions)
    noting("videos", run.manifest)
    noting("videos_of", run.manifest)
    monkeypatch.setattr(Stage, "__getattribute__", getattribute)
    monkeypatch.setattr(Inputs, "settings", note_settings)
    opened = []
    try:
        yield read, noted, files
    finally:
        opened = None
        monkeypatch.undo()


@pytest.fixture(scope="module")
def bagged(videos: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run up to its bags."""
    folder = tmp_path_factory.mktemp("runs") / "bagged"
    with open_job(folder, settings(tiny_clip), silent) as job:
        start_run(job, NAMES)
        index_run(job, str(videos))
        for stage in (expand_run, match_run, caption_run, bag_run):
            stage(job)
    return Run(folder)


@pytest.fixture
def run(bagged: Run, tmp_path: Path) -> Run:
    shutil.copytree(bagged.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with files of a user."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "p.tsv").write_text("high jump\tleaping over a bar\n")
    (folder / "c.jsonl").write_text("")
    (folder / "w.txt").write_text("ride\n")
    return folder


@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        ("expand", ["expander=shipped + file: {mine}/p.tsv"]),
        ("match", []),
        ("match", ["match.supervised=true", "shots=1"]),
        ("caption", []),
        ("caption", ["captioner=file:{mine}/c.jsonl"]),
        ("bag", ["bag.weights={mine}/w.txt"]),
        ("bag", ["bag.agree={clip}"]),
        ("train", ["epochs=1"]),
        ("train", ["epochs=1", "objective=cross_entropy", "curriculum=0.5"]),
        ("train", ["epochs=1", "cache.format=raw"]),
    ],
)
def test_what_is_read_is_in_the_key(
    verb: str,
    changes: list[str],
    run: Run,
    mine: Path,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [change.format(mine=mine, clip=tiny_clip) for change in changes]
    # A deep copy, since parts that are as by default are shared with the settings of other models.
    config = settings(tiny_clip, *changes).model_copy(deep=True)
    with (
        open_job(run.folder, config, silent) as job,
        watched(run, job.config, monkeypatch) as (read, noted, files),
    ):
        STAGES[verb](job)
        heard = set(opened or ())
    assert read - noted <= WITHOUT_EFFECT
    assert any(name.startswith(f"{verb}.") for name in read)
    of_the_user = {path for path in heard if path.parent == mine}
    assert of_the_user == {path for path in files if path.parent == mine}
    assert of_the_user or not any("mine" in change for change in changes)
    tables = {getattr(run, name) for name in OUTPUTS} | {run.manifest, run.actions}
    if "curriculum=0.5" in changes:
        files.add(run.matches)  # their scores are noted
    output = {"expand": run.phrases, "match": run.matches, "caption": run.captions, "bag": run.bags}
    own = {output.get(verb, run.training)}
    assert heard & tables <= files | own


@pytest.mark.parametrize(
    ("verb", "setting", "file", "text"),
    [
        ("expand", "expander=shipped + file:{}", "p.tsv", "high jump\tfalling on a mat\n"),
        ("bag", "bag.weights={}", "w.txt", "jump\n"),
        ("caption", "captioner=file: {}", "c.jsonl", '{"video": "x", "captions": ["a"]}\n'),
    ],
)
def test_an_edit_of_a_users_file_is_noticed(
    verb: str,
    setting: str,
    file: str,
    text: str,
    run: Run,
    mine: Path,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(mine))
    output = {"expand": run.phrases, "bag": run.bags, "caption": run.captions}[verb]

    def written() -> int:
        with open_job(run.folder, settings(tiny_clip, setting.format(f"~/{file}")), silent) as job:
            STAGES[verb](job)
        return output.stat().st_mtime_ns

    before = written()
    assert written() == before
    (mine / file).write_text(text)
    assert written() > before


def test_new_names_are_new_classes(run: Run, tiny_clip: Path) -> None:
    def trained(*more: str) -> bytes:
        with open_job(run.folder, settings(tiny_clip, "epochs=1", *more), silent) as job:
            train_run(job)
        return (run.model / "model.safetensors").read_bytes()

    before = trained("objective=cross_entropy")
    run.actions.write_text("\n".join([*NAMES, "person"]) + "\n")
    assert trained("objective=cross_entropy") != before
    before = trained()
    run.actions.write_text("\n".join(NAMES) + "\n")
    assert trained() == before, "to the other objectives names are nothing"


def test_a_new_video_costs_one_video(
    bagged: Run, run: Run, videos: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    rows = read_jsonl(run.manifest, Video)
    seen: list[tuple[str, int]] = []

    def watch(items: Any, total: int, label: str) -> Any:
        seen.append((label, total))
        return silent(items, total, label)

    def again(chosen: list[Video]) -> None:
        write_jsonl(run.manifest, chosen)
        with open_job(run.folder, settings(tiny_clip), watch) as job:
            match_run(job)
            caption_run(job)

    again(rows[:3] + rows[4:])
    assert seen == [("caption", 0)]
    again(rows)
    assert seen == [("caption", 0), ("caption", 1)]
    assert run.captions.read_bytes() == bagged.captions.read_bytes()
    assert run.matches.read_bytes() == bagged.matches.read_bytes()


def test_captions_by_the_path_of_a_video_follow_its_path(
    run: Run, tiny_clip: Path, tmp_path: Path
) -> None:
    file = tmp_path / "c.jsonl"
    write_jsonl(file, [Caption(f"{i}.mp4", (f"number {i}",)) for i in range(8)])
    rows = read_jsonl(run.manifest, Video)

    def said(order: list[int]) -> list[tuple[str, ...]]:
        named = [replace(v, path=f"/v/{i}.mp4") for v, i in zip(rows, order, strict=True)]
        write_jsonl(run.manifest, named)
        with open_job(run.folder, settings(tiny_clip, f"captioner=file:{file}"), silent) as job:
            return [row.captions for row in caption_run(job)]

    assert said([*range(8)]) == [(f"number {i}",) for i in range(8)]
    assert said([*range(8)][::-1]) == [(f"number {i}",) for i in range(8)][::-1]


def test_captions_edited_by_hand_outlive_a_new_video(run: Run, tiny_clip: Path) -> None:
    rows = read_jsonl(run.captions, Caption)
    write_jsonl(run.captions, [Caption(rows[0].video, ("a person jumps",)), *rows[1:]])
    edited = run.captions.read_bytes()
    write_jsonl(run.manifest, read_jsonl(run.manifest, Video)[1:])
    reason = "edited by hand, but manifest.jsonl changed"
    with (
        open_job(run.folder, settings(tiny_clip), silent) as job,
        pytest.raises(MaxiError, match=reason),
    ):
        caption_run(job)
    assert run.captions.read_bytes() == edited


@pytest.mark.parametrize(
    ("stage", "change", "stale"),
    [
        (
            bag_run,
            "match.keep=0.5",
            "matches.jsonl was made before settings changed; rerun `maxi match`",
        ),
        (
            bag_run,
            "n_phrases=2",
            "phrases.jsonl was made before settings changed; rerun `maxi expand`",
        ),
        (bag_run, "caption.n_frames=3", "captions.jsonl was made before settings changed; rerun"),
        (
            train_run,
            "caption_parts=verbs",
            "bags.jsonl was made before settings changed; rerun `maxi bag`",
        ),
    ],
)
def test_a_setting_of_an_earlier_stage_is_not_ignored(
    stage: Callable[[Job], Any], change: str, stale: str, run: Run, tiny_clip: Path
) -> None:
    with (
        open_job(run.folder, settings(tiny_clip, change), silent) as job,
        pytest.raises(MaxiError, match=stale),
    ):
        stage(job)


@pytest.mark.parametrize("n_written", [0, 1, 2, 3])
def test_a_full_disk_is_one_sentence_and_costs_no_finished_file(
    n_written: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-q", "bag", str(run.folder), "-s", "caption_parts=verbs"]
    before = run.bags.read_bytes()
    sync, left = os.fsync, n_written

    def full(descriptor: int) -> None:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    done = CliRunner().invoke(main, words)
    monkeypatch.undo()
    assert done.exit_code == 1
    assert "No space left on device" in done.stderr
    assert "unexpected" not in done.stderr
    assert run.bags.read_bytes() == before
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0, again.stderr
    assert run.bags.read_bytes() != before
    assert not [p.name for p in run.folder.iterdir() if p.suffix in (".new", ".tmp", ".journal")]
