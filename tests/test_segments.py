"""Parts of files: what a table or `--segment` cuts has the frames of that part, and ids, rows and exports know it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.method.classification import Classifier
from maxi.models.video_clip import load_model
from maxi.progress import silent
from maxi.records import Bag, Journal, Match, Video, read_jsonl
from maxi.run import Run
from maxi.stages.index import index_videos
from maxi.video.decode import Probe, decode_frames, probe
from maxi.video.sources import Source, list_videos
from maxi.video.timing import between
from maxi.video.workers import Decoder, Request
from media import read_number, write_video

N, FPS = 60, 10.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with keyframes."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, n_frames=N, fps=FPS, codec="libx264", gop=12)
    return path


def indexed(
    sources: list[Source],
    folder: Path,
    known: tuple[Video, ...] = (),
    segment: float = 0.0,
    counted: list[Request] | None = None,
) -> list[Video]:
    class Counting(Decoder):
        def map(self, requests):  # type: ignore[no-untyped-def]
            for request, answer in super().map(requests):
                if counted is not None:
                    counted.append(request)
                yield request, answer

    with Counting(1) as decoder:
        videos, skipped = index_videos(
            sources,
            decoder,
            journal=folder / "journal",
            known=known,
            progress=silent,
            segment=segment,
        )
    if skipped:
        raise MaxiError(skipped[0].reason)
    return videos


def numbers(video: Video) -> list[int]:
    """The numbers of all frames of a video, which are drawn in them."""
    with Decoder(1) as decoder:
        frames = decoder.one(Request.of(video, range(video.n_frames)))
    assert isinstance(frames, np.ndarray)
    return [read_number(frame) for frame in frames]


def test_a_part_has_the_frames_of_its_seconds(film: Path, tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text(
        f"path,start,end,label\n{film},1.25,2.5,leaping\n{film},3,4,running\n{film},,,all\n"
    )
    videos = {video.label: video for video in indexed(list_videos(table), tmp_path)}
    assert numbers(videos["leaping"]) == list(range(13, 25))
    assert numbers(videos["running"]) == list(range(30, 40))
    assert videos["all"].n_frames == N
    assert videos["all"].start is None
    leaping = videos["leaping"]
    assert leaping.id == f"{videos['all'].id}@1.250-2.500"
    assert leaping.content == videos["all"].content
    assert leaping.seconds == 1.25
    assert leaping.key is not None
    assert leaping.first is not None
    assert 0 < leaping.key <= leaping.first


def test_frames_are_the_same_from_a_keyframe_on(film: Path) -> None:
    keys = probe(film).keys.tolist()
    assert len(keys) > 3
    for index, stamp in keys:
        wanted = [index, index + 3, N - 1]
        whole = decode_frames(film, wanted)
        assert np.array_equal(decode_frames(film, wanted, (index, stamp)), whole)
        # A stamp that no frame has is noticed, and the file is decoded from its beginning.
        assert np.array_equal(decode_frames(film, wanted, (index, stamp + 1)), whole)


def test_windows_are_classified_without_a_decode_from_the_beginning(
    film: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(f"clip:{tiny_clip}")
    with Decoder(1) as decoder:
        classifier = Classifier(model, ["leaping", "running"], n_frames=2)
        together = list(classifier.windows(str(film), decoder, 1.0))
        monkeypatch.setattr("maxi.method.classification.FRAMES_AT_ONCE", 1)
        monkeypatch.setattr("maxi.video.decode.Probe.entry", noted := Noted(Probe.entry))
        assert list(classifier.windows(str(film), decoder, 1.0)) == together
    assert len(noted.returned) == 6
    assert all(noted.returned[1:])


class Noted:
    """A method that notes what it returns."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method, self.returned = method, []  # type: ignore[var-annotated]

    def __get__(self, owner: object, kind: type) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.returned.append(self.method(owner, *arguments))
            return self.returned[-1]

        return call


@pytest.mark.parametrize("name", ["film.avi", "film.ts", "film.gif"])
def test_other_files_are_entered_at_their_beginning_alone(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / name, n_frames=30)
    assert probe(tmp_path / name).keys.size == 0


def test_windows_cover_a_file(film: Path, tmp_path: Path) -> None:
    videos = indexed([Source(film)], tmp_path, segment=1.4)
    assert [v.cut for v in videos] == ["1.400"] * 4
    assert [(v.start, v.end) for v in videos] == [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6)]
    assert [number for video in videos for number in numbers(video)] == list(range(N))


def test_what_is_known_is_not_decoded_again(film: Path, tmp_path: Path) -> None:
    first = tuple(indexed([Source(film)], tmp_path / "a", segment=2))
    asked: list[Request] = []
    again = indexed([Source(film)], tmp_path / "b", known=first, segment=2, counted=asked)
    assert (tuple(again), asked) == (first, [])
    moved = shutil.copy(film, tmp_path / "moved.mp4")
    found = indexed([Source(Path(moved))], tmp_path / "c", known=first, segment=2, counted=asked)
    assert [request.wanted for request in asked] == ["id"]
    assert [video.id for video in found] == [video.id for video in first]
    indexed([Source(film)], tmp_path / "d", known=first, segment=3, counted=asked)
    assert [request.wanted for request in asked] == ["id", "id", "probe"]


def test_a_kill_in_the_middle_of_a_file_loses_no_window(film: Path, tmp_path: Path) -> None:
    whole = indexed([Source(film)], tmp_path / "a", segment=2)
    for n in range(len(whole)):
        folder = tmp_path / str(n)
        journal = Journal(folder / "journal", Video, "index")
        for video in whole[::-1][:n]:
            journal.add(video)
        journal.close()
        assert indexed([Source(film)], folder, segment=2) == whole


def test_a_file_that_was_done_before_a_kill_is_not_decoded_again(
    film: Path, tmp_path: Path
) -> None:
    whole = indexed([Source(film)], tmp_path, segment=2)
    asked: list[Request] = []
    again = indexed([Source(film)], tmp_path, segment=2, counted=asked)  # from the same journal
    assert (again, asked) == (whole, [])


def test_parts_of_nearly_the_same_seconds_are_kept_apart(film: Path, tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    rows = [
        f"{film},1.{i},3600000.{i},{i}" for i in range(1, 4)
    ]  # more digits than a short form has
    table.write_text("\n".join(["path,start,end,label", *rows]) + "\n")
    videos = {v.label: v for v in indexed(list_videos(table), tmp_path)}
    assert {label: v.start for label, v in videos.items()} == {"1": 1.1, "2": 1.2, "3": 1.3}
    assert {label: v.first for label, v in videos.items()} == {"1": 11, "2": 12, "3": 13}


def test_a_file_and_its_parts_may_be_listed_twice(film: Path, tmp_path: Path) -> None:
    part = Source(film, "a", None, 1.0, 2.0)
    videos = indexed([part, part, Source(film), Source(film)], tmp_path)
    assert len({video.id for video in videos}) == 4
    assert len({video.content for video in videos}) == 1


@pytest.mark.parametrize("bounds", ["x,2", "2,1", "-1,2", "1,", "nan,2", "1,inf"])
def test_bounds_that_are_none_are_told(film: Path, tmp_path: Path, bounds: str) -> None:
    table = tmp_path / "parts.csv"
    table.write_text(f"path,start,end\n{film},{bounds}\n")
    with pytest.raises(MaxiError, match=r"parts.csv:2: start and end are .*; give seconds"):
        list_videos(table)


def test_a_part_behind_the_end_is_told(film: Path, tmp_path: Path) -> None:
    with pytest.raises(MaxiError, match=r"has no frame at 7\.000-8\.000 seconds, it ends at 6\.0"):
        indexed([Source(film, None, None, 7.0, 8.0)], tmp_path)
    (last,) = indexed([Source(film, None, None, 5.0, 8.0)], tmp_path / "last")
    assert (last.n_frames, last.end) == (10, 6.0)


def test_a_part_without_a_frame_holds_the_one_that_is_on_show() -> None:
    times = np.array([0.0, 1.0, 2.0, 3.0])
    found = between(times, 1.2, 1.4)
    assert found is not None
    assert found.frames == (1, 2)
    assert between(times, 3.0, 4.0) is None


def test_lists_in_the_form_of_kinetics(film: Path, tmp_path: Path) -> None:
    (tmp_path / "high_jump").mkdir()
    shutil.copy(film, tmp_path / "high_jump" / "-abc_DEF123_000002_000005.mp4")
    shutil.copy(film, tmp_path / "xyzXYZ00000.mp4")
    table = tmp_path / "train.csv"
    table.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "high jump,-abc_DEF123,2,5,train\nrunning,xyzXYZ00000,1,3,train\nrunning,gone,1,3,train\n"
    )
    cut_out, whole, gone = list_videos(f"{table}:train")
    with_paths = tmp_path / "paths.csv"
    with_paths.write_text(
        f"path,label,time_start,time_end\n{cut_out.path},a,2.0,5.0\n{whole.path},b,2.0,5.0\n"
    )
    of_clip, of_whole = list_videos(with_paths)
    assert (of_clip.start, of_whole.start, of_whole.end) == (None, 2.0, 5.0)
    assert cut_out.path.name == "-abc_DEF123_000002_000005.mp4"
    assert (cut_out.start, cut_out.label) == (None, "high jump")
    assert (whole.path.name, whole.start, whole.end) == ("xyzXYZ00000.mp4", 1.0, 3.0)
    assert not gone.path.exists()


def test_a_run_of_windows_from_beginning_to_end(
    film: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    def maxi(*words: object) -> str:
        found = CliRunner().invoke(main, ["-q", *map(str, words)])
        assert found.exit_code == 0, found.output
        return found.stdout

    folder, out = tmp_path / "videos", tmp_path / "run"
    folder.mkdir()
    shutil.copy(film, folder / "film.mp4")
    small = ["-s", "epochs=1", "-s", "train.batch_size=4", "-s", "train.micro_batch=4"]
    options = ["--actions", actions, "--backbone", f"clip:{tiny_clip}", "--segment", "0.6", *small]
    maxi("adapt", folder, "-o", out, *options)
    run = Run(out)
    videos = read_jsonl(run.manifest, Video)
    assert len(videos) == 10
    assert {match.video for match in read_jsonl(run.matches, Match)} == {v.id for v in videos}
    before = run.training.read_bytes()
    maxi("adapt", folder, "-o", out, "--actions", actions, "--resume")  # the settings are kept
    assert run.training.read_bytes() == before
    maxi("export", out, "-o", tmp_path / "csv")
    with (tmp_path / "csv" / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(float(r["start"]), float(r["end"])) for r in rows] == [
        (v.start, v.end) for v in videos
    ]
    maxi("export", out, "-o", tmp_path / "windows", "--window", "3", "--to", "fiftyone")
    labels = json.loads((tmp_path / "windows" / "labels.json").read_text())["labels"]
    assert [len(found) for found in labels.values()] == [2]
    maxi("judge", out, "-n", "30", "-o", tmp_path / "ask.csv")
    text = (tmp_path / "ask.csv").read_text().replace(",,", ",high jump,")
    (tmp_path / "ask.csv").write_text(text)
    n_asked = len(text.splitlines()) - 1
    assert maxi("import", out, tmp_path / "ask.csv").startswith(f"{n_asked} answers are added")
    assert {bag.video for bag in read_jsonl(run.bags, Bag)} <= {video.id for video in videos}
