"""The store of features: what is not what was written is cut off, or refused when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.features.store import FeatureStore, n_stored

ROWS = {f"video{i}": np.full((2, 3), i + 0.5, np.float32) for i in range(4)}


def filled(folder: Path) -> FeatureStore:
    store = FeatureStore(folder, "key")
    for video, row in ROWS.items():
        store.append(video, row)
    store.close()
    return FeatureStore(folder, "key")


def test_rows_come_back_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path)
    order = ["video2", "video0", "video2"]
    assert np.array_equal(store.gather(order), np.stack([ROWS[video] for video in order]))
    assert n_stored(tmp_path, "key") == 4
    store.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"x y\n", b"[]\n", b"\xff\xfe\n1\n", b"9" * 50 + b"\na 0\n", b"-1 2\na\n"],
)
def test_ids_that_say_nothing_are_a_store_without_rows(content: bytes, tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / "key.ids").write_bytes(content)
    store = FeatureStore(tmp_path, "key")
    assert "video0" not in store
    store.append("video1", ROWS["video1"])
    assert np.array_equal(store.gather(["video1"])[0], ROWS["video1"])
    store.close()


@pytest.mark.parametrize("line", ["video9\n", "video 9 00000000\n", "\n", "null\n"])
def test_rows_behind_a_broken_line_are_cut_off(line: str, tmp_path: Path) -> None:
    filled(tmp_path).close()
    ids = tmp_path / "key.ids"
    lines = ids.read_text().splitlines(keepends=True)
    ids.write_text("".join([*lines[:3], line, *lines[3:]]))
    store = FeatureStore(tmp_path, "key")
    assert [video in store for video in ROWS] == [True, True, False, False]
    store.append("video3", ROWS["video3"])
    assert np.array_equal(store.gather(["video3", "video0"])[0], ROWS["video3"])
    store.close()


def swap_ids(folder: Path) -> None:
    lines = (folder / "key.ids").read_text().splitlines(keepends=True)
    (folder / "key.ids").write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))


def change_shape(folder: Path) -> None:
    ids = folder / "key.ids"
    ids.write_text(ids.read_text().replace("2 3", "3 1", 1))


def change_data(folder: Path) -> None:
    data = folder / "key.f32"
    data.write_bytes(data.read_bytes().replace(b"\x00\x00\x00\x3f", b"\x00\x00\x00\x40", 1))


@pytest.mark.parametrize("edit", [swap_ids, change_shape, change_data])
def test_rows_of_other_videos_are_never_given(edit: Callable[[Path], None], tmp_path: Path) -> None:
    filled(tmp_path).close()
    edit(tmp_path)
    store = FeatureStore(tmp_path, "key")
    with pytest.raises(MaxiError, match="not what was written there; remove the folder"):
        store.gather(["video0", "video1"])
    store.close()
