"""`maxi.video.decode`: every frame is the one asked for, whatever the container says about itself."""

from __future__ import annotations

import csv
import os
import shutil
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.video import upright
from maxi.video.decode import centre_indices, decode_frames, probe, tsn_indices
from media import draw, read_number, write_video

SHARED = Path(os.environ.get("MAXI_SHARED", Path(__file__).parents[2] / "shared"))


def numbers(path: Path, indices: list[int]) -> list[int]:
    return [read_number(frame) for frame in decode_frames(path, indices)]


@pytest.mark.parametrize("extension", ["mp4", "avi", "mkv", "webm", "mov", "gif", "flv", "ts"])
def test_frames_of_each_container_are_exact(tmp_path: Path, extension: str) -> None:
    path = write_video(tmp_path / f"a.{extension}", 23, (96, 64))
    found = probe(path)
    assert (found.n_frames, found.width, found.height, found.short) == (23, 96, 64, None)
    assert found.fps == pytest.approx(10)
    assert numbers(path, list(range(23))) == list(range(23))
    assert numbers(path, [7, 3, 7, 22, 0]) == [7, 3, 7, 22, 0]


def test_colours_are_rgb(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 3, (96, 64), seed=3)
    got = decode_frames(path, [2])[0].astype(int)
    assert np.abs(got - draw(2, (96, 64), seed=3)).mean() < 6
    assert np.abs(got[..., ::-1] - draw(2, (96, 64), seed=3)).mean() > 20


@pytest.mark.parametrize("extension", ["mp4", "avi", "webm"])
def test_odd_sizes(tmp_path: Path, extension: str) -> None:
    path = write_video(tmp_path / f"a.{extension}", 3, (321, 241))
    frames = decode_frames(path, [0, 2])
    assert frames.shape == (2, 241, 321, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames[1].astype(int) - draw(2, (321, 241))).mean() < 3


def test_one_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 1)
    assert (probe(path).n_frames, probe(path).short) == (1, None)
    assert numbers(path, centre_indices(1, 4)) == [0, 0, 0, 0]


def test_one_keyframe(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 120, gop=1000)
    assert numbers(path, centre_indices(120, 8)) == [7, 22, 37, 52, 67, 82, 97, 112]


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
def test_variable_frame_rate(tmp_path: Path, extension: str) -> None:
    times = [0, 40, 80, 300, 340, 900, 940, 980, 1400, 1500]
    path = write_video(tmp_path / f"a.{extension}", 10, times=times)
    found = probe(path)
    assert (found.n_frames, found.short) == (10, None)
    assert found.fps == pytest.approx(6, rel=0.1)
    assert numbers(path, list(range(10))) == list(range(10))


@pytest.mark.parametrize("extension", ["mp4", "avi", "mkv"])
def test_metadata_need_not_be_utf_8(tmp_path: Path, extension: str) -> None:
    path = write_video(tmp_path / f"a.{extension}", 3, title="Caf?, a title of an old camera")
    data = path.read_bytes()
    assert data.count(b"Caf?") == 1
    path.write_bytes(data.replace(b"Caf?", "Café".encode("latin-1")))
    assert (probe(path).n_frames, probe(path).short) == (3, None)
    assert numbers(path, [2]) == [2]


def test_missing_frames_repeat_the_last(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 5)
    assert numbers(path, [99, 2, 5]) == [4, 2, 4]


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone's quarter turn clockwise
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
        ((0, 0, 0, 0), lambda image: image),  # nonsense
    ],
)
def test_the_whole_display_matrix_is_applied(
    tmp_path: Path, matrix: tuple[int, ...], displayed: Callable[[np.ndarray], np.ndarray]
) -> None:
    # QuickTime: x' = a x + c y, y' = b x + d y, with y downwards.
    path = write_video(tmp_path / "a.mp4", 4)
    plain = decode_frames(path, [3])[0]
    a, b, c, d = (65536 * value for value in matrix)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = displayed(plain)
    assert np.array_equal(decode_frames(path, [3])[0], expected)
    assert (probe(path).height, probe(path).width) == expected.shape[:2]


@pytest.mark.parametrize(
    ("aspect", "size"),
    [((4, 1), (256, 48)), ((1, 2), (64, 96)), ((63, 64), (64, 48)), ((99, 1), (64, 48))],
)
def test_pixels_are_displayed_square(
    tmp_path: Path, aspect: tuple[int, int], size: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", 4, aspect=Fraction(*aspect))
    found = probe(path)
    assert (found.width, found.height) == size
    (frame,) = decode_frames(path, [3])
    assert frame.shape == (size[1], size[0], 3)
    assert read_number(frame) == 3


def test_a_large_frame_is_shrunk_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 4, (128, 96))
    monkeypatch.setattr(upright, "LARGEST", 64 * 48)
    assert (probe(path).width, probe(path).height) == (128, 96)
    assert decode_frames(path, [3]).shape == (1, 48, 64, 3)
    assert numbers(path, [3, 1]) == [3, 1]
    assert upright.returned_size(10**9, 1) == (64 * 48, 1)


def test_frames_are_shown_when_their_stamps_say(tmp_path: Path) -> None:
    slow_then_fast = [*range(0, 10_000, 1000), *range(10_000, 11_000, 50)]
    found = probe(write_video(tmp_path / "a.mp4", 30, times=slow_then_fast))
    np.testing.assert_allclose(found.times[:-1], np.array(slow_then_fast) / 1000, atol=0.002)
    assert found.times[-1] > 10.95
    once = write_video(tmp_path / "1.ts", 20).read_bytes()
    (tmp_path / "twice.ts").write_bytes(2 * once)
    found = probe(tmp_path / "twice.ts")
    assert found.n_frames == 40
    np.testing.assert_allclose(found.times, np.arange(41) / 10, atol=0.01)
    assert found.fps == pytest.approx(10, rel=0.01)


def test_a_change_of_size_midway_is_scaled_away(tmp_path: Path) -> None:
    first = write_video(tmp_path / "1.ts", 6, (64, 48)).read_bytes()
    second = write_video(tmp_path / "2.ts", 6, (128, 96)).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(first + second)
    assert probe(path).n_frames == 12
    assert decode_frames(path, [11]).shape == (1, 48, 64, 3)
    assert numbers(path, [5, 6, 11]) == [5, 0, 5]


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def test_a_truncated_avi_is_short(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.avi", 50, (320, 240), gop=5), 0.6)
    found = probe(path)
    assert 10 < found.n_frames < 40
    assert found.short == f"{found.n_frames} of 50 frames decode"
    whole = list(range(found.n_frames - 1))  # the cut goes through the last one
    assert numbers(path, whole) == whole


def test_a_truncated_webm_is_short(tmp_path: Path) -> None:
    found = probe(cut(write_video(tmp_path / "a.webm", 50, (160, 120), gop=5), 0.5))
    assert 10 < found.n_frames < 40
    assert found.short is not None
    assert found.short.endswith("of 5.0 s")


def test_a_decode_error_in_the_middle_is_passed_over_and_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", 40, (320, 240), gop=10)
    with av.open(path) as container:  # frame 19, after which a keyframe comes
        packet = next(bytes(p) for i, p in enumerate(container.demux(video=0)) if i == 19)
    data = path.read_bytes()
    assert data.count(packet) == 1
    path.write_bytes(data.replace(packet, bytes(len(packet))))
    found = probe(path)
    assert found.n_frames == 39
    assert found.short is not None
    assert "packets that do not: 1" in found.short
    assert numbers(path, list(range(39))) == [*range(19), *range(20, 40)]


def test_an_edit_list_is_not_a_truncation(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 50, gop=100)
    path = tmp_path / "trimmed.mp4"
    with av.open(source) as whole, av.open(path, "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        shift = int(Fraction(3) / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                part.mux(packet)
    with av.open(path) as container:
        assert container.streams.video[0].frames == 50  # what the header says is not what is shown
    assert (probe(path).n_frames, probe(path).short) == (20, None)
    assert numbers(path, [0, 19]) == [30, 49]


def write_playlist(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{path.parent}/real.ts\n#EXT-X-ENDLIST\n")


def write_concat(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile real.ts\n")


def write_sound(path: Path) -> None:
    with wave.open(str(path.with_suffix(".wav")), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with av.open(path.with_suffix(".wav")) as source, av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for frame in source.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "empty file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_text("no video at all\n" * 50), "not a video (Invalid data"),
        (write_playlist, "not a video"),
        (write_concat, "not a video of a known format"),
        (write_sound, "no video stream"),
        (lambda path: cut(write_video(path, 30), 0.5), "not a video"),
    ],
    ids=["missing", "empty", "folder", "text", "m3u8", "ffconcat", "sound", "no index"],
)
def test_what_is_no_video_is_refused_with_a_reason(
    tmp_path: Path, write: Callable[[Path], object], reason: str
) -> None:
    write_video(tmp_path / "real.ts", 5)
    path = tmp_path / "a.mp4"
    write(path)
    with pytest.raises(MaxiError) as first:
        probe(path)
    with pytest.raises(MaxiError) as second:
        decode_frames(path, [0])
    assert reason in str(first.value)
    assert str(second.value) == str(first.value)


def test_playlists_would_be_read_but_for_the_white_list(tmp_path: Path) -> None:
    write_video(tmp_path / "real.ts", 5)
    write_concat(tmp_path / "a.mp4")
    with av.open(tmp_path / "a.mp4") as container:
        assert len(list(container.decode(video=0))) == 5


def test_giant_frames_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.gif", 1)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<2H", 9000, 9000)
    path.write_bytes(data)
    with pytest.raises(MaxiError, match="9000x9000 are larger than the limit of 67108864 pixels"):
        probe(path)


@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "#1.mp4", "[a]%03d*?.mp4", "é 日本.mp4", "-y.mp4", "a:b.mp4", "http:x.mp4"],
)
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shutil.copy(write_video(tmp_path / "plain.mp4", 3), tmp_path / name)
    assert numbers(tmp_path / name, [2]) == [2]
    monkeypatch.chdir(tmp_path)
    assert probe(name).n_frames == 3


@pytest.mark.parametrize("indices", [[], [3, -1]])
def test_impossible_indices_are_the_callers_error(tmp_path: Path, indices: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        decode_frames(write_video(tmp_path / "a.mp4", 3), indices)


def test_centre_indices() -> None:
    assert centre_indices(10, 5) == [1, 3, 5, 7, 9]
    assert centre_indices(250, 4) == [31, 93, 156, 218]
    assert centre_indices(3, 6) == [0, 0, 1, 1, 2, 2]


def test_tsn_indices() -> None:
    draws = np.array([tsn_indices(35, 8, np.random.default_rng(seed)) for seed in range(400)])
    for i in range(8):  # segments of 4 frames; the tail 32..34 is never drawn
        assert sorted(set(draws[:, i])) == [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]
    assert tsn_indices(35, 8, np.random.default_rng(1)) == draws[1].tolist()
    for n_total in range(1, 16):
        short = tsn_indices(n_total, 16, np.random.default_rng(0))
        assert short == sorted(short)
        assert sorted(set(short)) == list(range(n_total))


@pytest.mark.skipif(not (SHARED / "videos/manifest.csv").exists(), reason="no sibling data folder")
def test_real_clips_decode_to_the_counts_of_their_manifest() -> None:
    with (SHARED / "videos/manifest.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["frames"]))[:96:8]
    for row in rows:
        found = probe(SHARED / "videos" / row["path"])
        # This one is stored in another shape than it is displayed in.
        width = 456 if row["path"] == "mmaction2_samples/part_0.mp4" else int(row["width"])
        expected = (int(row["frames"]), width, int(row["height"]), None)
        assert (found.n_frames, found.width, found.height, found.short) == expected, row["path"]
