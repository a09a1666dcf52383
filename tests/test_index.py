"""Index and later stages: a file is read when it may have changed, and tried again where a failure may pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from maxi.errors import MaxiError, UnfinishedError
from maxi.progress import silent
from maxi.records import Match, Skipped, Video, read_jsonl
from maxi.run import Run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.video.workers import Answer, Decoder, Request
from test_adapt import settings

NAMES = ["playing guitar", "riding a horse", "high jump"]


@pytest.fixture
def collection(videos: Path, tmp_path: Path) -> Path:
    return shutil.copytree(videos, tmp_path / "collection")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """All requests to decoders, in order; those for a file named in `failing` fail."""
    seen: list[Request] = []
    answers_of = Decoder.map

    def noted(
        decoder: Decoder, requests: Iterable[Request]
    ) -> Iterator[tuple[Request, Answer | MaxiError]]:
        for request, answer in answers_of(decoder, requests):
            seen.append(request)
            fails = Path(request.path).name in failing and request.wanted != "id"
            yield request, UnfinishedError("took too long") if fails else answer

    monkeypatch.setattr(Decoder, "map", noted)
    return seen


failing: set[str] = set()


@pytest.fixture(autouse=True)
def all_is_well() -> None:
    failing.clear()


def index(collection: Path, tiny_clip: Path, out: Path, *, match: bool = False) -> list[Match]:
    with open_job(out, settings(tiny_clip), silent) as job:
        start_run(job, NAMES)
        index_run(job, str(collection))
        return match_run(job) if match else []


def test_a_file_is_read_when_it_may_have_changed(
    collection: Path, tiny_clip: Path, tmp_path: Path, asked: list[Request]
) -> None:
    run = Run(tmp_path / "run")
    index(collection, tiny_clip, run.folder)
    assert sorted(str(request.wanted) for request in asked) == 8 * ["id"] + 8 * ["probe"]
    first = {v.path: v for v in read_jsonl(run.manifest, Video)}
    touched, changed = sorted(first)[:2]
    os.utime(touched, ns=(1, 1))
    # As where a download is completed in place: neither the size nor the ends of the file tell it.
    data = bytearray(Path(changed).read_bytes())
    data[data.index(b"mdat") + 40] ^= 255
    Path(changed).write_bytes(data)
    asked.clear()
    index(collection, tiny_clip, run.folder)
    assert [(str(r.path), r.wanted) for r in asked if r.wanted == "probe"] == [(changed, "probe")]
    assert {str(r.path) for r in asked if r.wanted == "id"} == {touched, changed}
    second = {v.path: v for v in read_jsonl(run.manifest, Video)}
    assert {path for path in first if second[path].id != first[path].id} == {changed}
    asked.clear()
    index(collection, tiny_clip, run.folder)
    assert asked == []


def test_a_failure_that_may_pass_is_tried_again(
    collection: Path, tiny_clip: Path, tmp_path: Path, asked: list[Request]
) -> None:
    run = Run(tmp_path / "run")
    failing.add("clip 3.mp4")
    index(collection, tiny_clip, run.folder)
    assert len(read_jsonl(run.manifest, Video)) == 7
    (row,) = read_jsonl(run.skipped, Skipped)
    assert (Path(row.path).name, row.kind, row.again) == ("clip 3.mp4", "unreadable", True)
    failing.clear()
    failing.add("clip 4.mp4")  # later, when frames are read
    assert len(index(collection, tiny_clip, run.folder, match=True)) == 7
    assert len(read_jsonl(run.manifest, Video)) == 8
    assert read_jsonl(run.skipped, Skipped) == []
    failing.clear()
    assert len(index(collection, tiny_clip, run.folder, match=True)) == 8
    asked.clear()
    assert len(index(collection, tiny_clip, run.folder, match=True)) == 8
    assert asked == []


def test_an_edited_table_is_kept_though_a_video_failed(
    collection: Path, tiny_clip: Path, tmp_path: Path, asked: list[Request]
) -> None:
    run = Run(tmp_path / "run")
    failing.add("clip 3.mp4")
    index(collection, tiny_clip, run.folder)
    lines = run.manifest.read_text().splitlines(keepends=True)
    run.manifest.write_text("".join(lines[:-1]))
    failing.clear()
    index(collection, tiny_clip, run.folder)
    assert run.manifest.read_text() == "".join(lines[:-1])
