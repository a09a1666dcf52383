"""Stored frames: what goes in comes out, nothing half-written counts, and damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from maxi.config import CacheConfig
from maxi.errors import MaxiError
from maxi.records import Video
from maxi.video import frame_store as shards
from maxi.video.frame_store import FrameStore, n_pixels, pack, store_key, stored_indices
from maxi.video.transforms import shrink

RAW = CacheConfig(format="raw", n_frames=4, short_side=24)
JPEG = CacheConfig(format="jpeg", n_frames=4, short_side=24)


def picture(n: int, height: int = 30, width: int = 40) -> np.ndarray:
    """Four smooth frames that depend on `n`."""
    y, x = np.mgrid[:height, :width]
    frames = [np.stack([x * 6, y * 8, (x + y) * 3 + 20 * t + n], -1) for t in range(4)]
    return np.array(frames).clip(0, 255).astype(np.uint8)


def fill(folder: Path, config: CacheConfig, n: int = 3) -> FrameStore:
    store = FrameStore(folder, config)
    for i in range(len(store), n):
        store.append(f"v{i}", pack(picture(i), config))
    store.close()
    return store


def shrunk(frames: np.ndarray, side: int) -> np.ndarray:
    return shrink(torch.from_numpy(frames).permute(0, 3, 1, 2), side).permute(0, 2, 3, 1).numpy()


def test_raw_frames_come_back_as_they_were(tmp_path: Path) -> None:
    for store in (fill(tmp_path, RAW), FrameStore(tmp_path, RAW)):
        assert list(store) == ["v0", "v1", "v2"]
        for i, video in enumerate(store):
            assert store.n_frames(video) == 4
            assert store.n_bytes(video) == 4 * 24 * 32 * 3
            expected = shrunk(picture(i), 24)
            assert np.array_equal(store.read(video, [3, 0, 0]), expected[[3, 0, 0]])


def test_jpegs_come_back_nearly_as_they_were(tmp_path: Path) -> None:
    store = fill(tmp_path, JPEG)
    assert store.n_bytes("v1") < 4 * 24 * 32 * 3
    difference = store.read("v1", range(4)).astype(int) - shrunk(picture(1), 24)
    assert 0 < np.abs(difference).mean() < 4


def test_small_videos_are_not_enlarged(tmp_path: Path) -> None:
    config = RAW.model_copy(update={"short_side": 100})
    store = FrameStore(tmp_path, config)
    store.append("v", pack(picture(0), config))
    assert np.array_equal(store.read("v", range(4)), picture(0))


def test_the_size_is_known_before() -> None:
    long = Video("a", "a.mp4", 100, 10.0, 40, 30)
    assert stored_indices(long, RAW) == (12, 37, 62, 87)
    assert 3 * n_pixels(long, RAW) == sum(map(len, pack(picture(0), RAW).frames))
    short = Video("b", "b.mp4", 3, 10.0, 20, 10)
    assert stored_indices(short, RAW) == (0, 1, 2)
    assert n_pixels(short, RAW) == 3 * 20 * 10


def test_the_key_changes_with_what_is_stored() -> None:
    changes = [{}, {"format": "jpeg"}, {"n_frames": 5}, {"short_side": 25}]
    assert len({store_key(RAW.model_copy(update=change)) for change in changes}) == 4
    for config, same in ((RAW, True), (JPEG, False)):
        other = config.model_copy(update={"quality": 50})
        assert (store_key(config) == store_key(other)) == same


@pytest.mark.parametrize("config", [RAW, JPEG], ids=["raw", "jpeg"])
def test_an_interruption_at_any_byte_loses_at_most_the_video_in_work(
    config: CacheConfig, tmp_path: Path
) -> None:
    whole = fill(tmp_path / "whole", config, 4)
    names = ("index.jsonl", "shard-00000.bin")
    for name, cut in [(n, c) for n in names for c in (0, 1, 30, 60)]:
        folder = tmp_path / f"{name}-{cut}"
        path = fill(folder, config).folder / name
        if cut:
            os.truncate(path, path.stat().st_size - cut)
        else:
            with path.open("ab") as file:
                file.write(b'{"video":"v3","at":[0')
        assert list(FrameStore(folder, config)) == ["v0", "v1", "v2"][: 2 if cut else 3]
        fill(folder, config, 4)
        for file in names:
            assert (path.parent / file).read_bytes() == (whole.folder / file).read_bytes()


def test_a_new_shard_begins_when_one_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    fill(tmp_path, RAW, 3)
    store = fill(tmp_path, RAW, 5)
    sizes = [(store.folder / f"shard-{k:05d}.bin").stat().st_size for k in range(3)]
    assert sizes == [2 * 9216, 2 * 9216, 9216]
    for opened in (store, FrameStore(tmp_path, RAW)):
        for i in range(5):
            assert np.array_equal(opened.read(f"v{i}", [2])[0], shrunk(picture(i), 24)[2])
    (store.folder / "shard-00000.bin").unlink()
    assert list(FrameStore(tmp_path, RAW)) == ["v2", "v3", "v4"]


@pytest.mark.parametrize("config", [RAW, JPEG], ids=["raw", "jpeg"])
def test_a_damaged_byte_is_noticed_and_the_rest_is_whole(
    config: CacheConfig, tmp_path: Path
) -> None:
    store = fill(tmp_path, config)
    path = store.folder / "shard-00000.bin"
    at = store.n_bytes("v0") + 100  # in the first frame of the second video
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    store.read("v1", [1, 2, 3])
    for damaged in (lambda: store.read("v1", [0]), lambda: store.verify("v1")):
        with pytest.raises(MaxiError, match=r"damaged in .*shard-00000.bin"):
            damaged()
    store.verify("v0")
    store.drop(["v1"])
    again = FrameStore(tmp_path, config)
    assert list(again) == ["v0", "v2"]
    again.append("v1", pack(picture(1), config))
    for video in again:
        again.verify(video)


def test_a_shard_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    store = fill(tmp_path, RAW)
    (store.folder / "shard-00000.bin").unlink()
    with pytest.raises(MaxiError, match=r"shard-00000.bin: No such file"):
        store.read("v0", [0])


def test_lost_videos_are_remembered_until_they_decode(tmp_path: Path) -> None:
    store = fill(tmp_path, RAW)
    for _ in range(2):
        store.lose("v3", "no such file")
    store.close()
    assert (store.folder / "index.jsonl").read_text().count("lost") == 1
    again = FrameStore(tmp_path, RAW)
    assert again.lost == {"v3": "no such file"}
    again.append("v3", pack(picture(3), RAW))
    again.close()
    assert FrameStore(tmp_path, RAW).lost == {}


def test_a_shard_that_was_cut_off_is_known(tmp_path: Path) -> None:
    store = fill(tmp_path, RAW)
    path = store.folder / "shard-00000.bin"
    path.write_bytes(path.read_bytes()[:-10])
    cut = FrameStore(tmp_path, RAW)
    assert cut.cut == {"v2"}
    cut.drop(cut.cut)
    assert not FrameStore(tmp_path, RAW).cut
    assert len(fill(tmp_path, RAW)) == 3
