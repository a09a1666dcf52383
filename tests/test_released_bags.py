"""A run from what was made elsewhere: phrases of each name, verbs of each video, and a list of matches, as released."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from maxi.datasets.files import read_matches
from maxi.errors import MaxiError
from maxi.progress import silent
from maxi.records import Match, Video, read_jsonl
from maxi.run import Run, contents
from maxi.stages.adapt import adapt
from maxi.text.phrasebook import read_book
from test_adapt import settings

PHRASES = {"playing guitar": ["strum", "playing guitar", "strumming"], "riding a horse": ["ride"]}


@pytest.fixture
def released(videos: Path, tmp_path: Path) -> Path:
    """Videos in folders of class ids, as the released lists and files name them."""
    lines = []
    for n, path in enumerate(sorted(videos.rglob("*.mp4"))):
        stem, label = f"clip_{n}", n % 2
        (tmp_path / "train" / str(label)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "train" / str(label) / f"{stem}.mkv")
        if n != 7:
            lines.append(f"k400/train/{label}/{stem}.mp4 {1 - label}\n")
        verbs = tmp_path / "verbs" / str(label) / f"{stem}.txt"
        verbs.parent.mkdir(parents=True, exist_ok=True)
        verbs.write_text("" if n == 3 else f"sit\nsitting\nwave {n}\n")
    (tmp_path / "matches.txt").write_text("".join(lines))
    (tmp_path / "phrases").mkdir()
    for name, texts in PHRASES.items():
        (tmp_path / "phrases" / f"{name}.txt").write_text("\n".join(texts))
    (tmp_path / "actions.txt").write_text("riding a horse\nplaying guitar\n")
    return tmp_path


def run_from(released: Path, tiny_clip: Path, *more: str) -> Run:
    config = settings(
        tiny_clip,
        "epochs=1",
        f"match.file={released / 'matches.txt'}",
        f"expand.expander=file:{released / 'phrases'}",
        "expand.n_phrases=100",
        f"caption.captioner=file:{released / 'verbs'}",
        "bag.as_given=true",
        *more,
    )
    return adapt(
        str(released / "train"),
        released / "actions.txt",
        released / "run",
        config,
        resume=True,
        progress=silent,
    )


def test_bags_are_those_that_were_released(
    released: Path, tiny_clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_from(released, tiny_clip)
    assert "1 of 8 videos are not in" in caplog.text
    stems = {v.id: Path(v.path).stem for v in read_jsonl(run.manifest, Video)}
    matches = {stems[m.video]: m for m in read_jsonl(run.matches, Match)}
    assert len(matches) == 7
    assert matches["clip_0"].name == "playing guitar"  # the id of the list, not of the folder
    bags = {
        stems[row["video"]]: [t["text"] for t in row["texts"]]
        for row in map(json.loads, run.bags.read_text().splitlines())
    }
    assert bags["clip_0"] == ["strum", "strumming", "sit", "sitting", "wave 0"]
    assert bags["clip_1"] == ["ride", "sit", "sitting", "wave 1"]
    assert bags["clip_3"] == ["ride"]
    before = run.bags.read_bytes()
    assert run_from(released, tiny_clip).bags.read_bytes() == before
    # What is edited is read anew.
    (released / "verbs" / "0" / "clip_0.txt").write_text("run\n")
    (released / "phrases" / "riding a horse.txt").write_text("gallop\n")
    (released / "matches.txt").write_text("0/clip_0.mp4 1\n1/clip_1.mp4 0\n")
    texts = [
        [t["text"] for t in row["texts"]]
        for row in map(json.loads, run_from(released, tiny_clip).bags.read_text().splitlines())
    ]
    assert sorted(texts) == [["gallop", "sit", "sitting", "wave 1"], ["strum", "strumming", "run"]]


def test_lists_of_others_are_refused(tmp_path: Path) -> None:
    videos = [Video(i, f"/x/{i}/a.mp4", 4, 1.0, 1, 1) for i in "01"]
    path = tmp_path / "list.txt"

    def matched(text: str) -> list[tuple[str, str, bool]]:
        path.write_text(text)
        return [(m.video, m.name, m.kept) for m in read_matches(path, ["a", "b"], videos)]

    assert matched("k400/1/a.webm 0\nb.mp4 1\n") == [("1", "a", True)]
    with pytest.raises(MaxiError, match=r"both fit the listed a\.mp4"):
        matched("a.mp4 0\n")
    with pytest.raises(
        MaxiError, match=r"none of its 1 paths is one of the videos, such as c\.mp4"
    ):
        matched("c.mp4 0\n")
    with pytest.raises(MaxiError, match="is not a path and ids from 0 to 1"):
        matched("a.mp4 2\n")
    with pytest.raises(MaxiError, match="file and supervised conflict"):
        settings(Path("x"), "match.file=x", "match.supervised=true")


def test_a_folder_of_phrases(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(MaxiError, match="holds no files such as"):
        read_book(tmp_path)
    empty = contents(tmp_path)
    sample = shared / "protocols" / "text_bags" / "kinetics400_gpt3_verbs_sample.json"
    for name, texts in json.loads(sample.read_text()).items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))
    assert contents(tmp_path) != empty
    folder, file = read_book(tmp_path), read_book(sample)
    assert folder.texts == file.texts
    assert len(folder.texts) == 5
