"""An append-only store of rows by video id, on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROWS = 1024  # stored rows handled at a time


class FeatureStore:
    """Float32 rows of one shape by video id, in `<key>.f32` and `<key>.ids`, appended as they are made.

    The first line of `.ids` is the rows' shape. An interruption loses at most the row in work: what the two files do
    not both hold whole is cut off on opening.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data_path, self._ids_path = folder / f"{key}.f32", folder / f"{key}.ids"
        for path in (self._data_path, self._ids_path):
            path.touch()
        head, *ids = self._ids_path.read_bytes().split(b"\n")[:-1] or [b""]
        self.shape = tuple(int(n) for n in head.split())
        whole = [i.decode("ascii") for i in ids]
        whole = whole[: self._data_path.stat().st_size // self._row_bytes()]
        os.truncate(self._data_path, len(whole) * self._row_bytes())
        os.truncate(
            self._ids_path, sum(len(i) + 1 for i in (head, *ids[: len(whole)])) if head else 0
        )
        self._rows = {video: row for row, video in enumerate(whole)}
        self._data = self._data_path.open("ab")
        self._ids = self._ids_path.open("ab")

    def _row_bytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __contains__(self, video: str) -> bool:
        return video in self._rows

    def append(self, video: str, row: NDArray[np.float32]) -> None:
        line = f"{video}\n"
        if not self.shape:
            self.shape = row.shape
            line = " ".join(map(str, row.shape)) + "\n" + line
        assert row.shape == self.shape, (row.shape, self.shape)
        self._data.write(np.ascontiguousarray(row, dtype=np.float32).tobytes())
        self._data.flush()
        self._ids.write(line.encode("ascii"))
        self._ids.flush()
        self._rows[video] = len(self._rows)

    def gather(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """Rows of these videos, in their order: (n, *shape)."""
        if not videos:
            return np.empty((0, *self.shape), dtype=np.float32)
        found = np.empty((len(videos), *self.shape), dtype=np.float32)
        for i in range(0, len(videos), ROWS):
            # Mapped anew each time: the pages of a mapping that stays add up to a second copy in memory.
            data = np.memmap(self._data_path, np.float32, "r", shape=(len(self._rows), *self.shape))
            part = [self._rows[v] for v in videos[i : i + ROWS]]
            found[i : i + ROWS] = data[part]
        return found

    def close(self) -> None:
        # A full disk may fail the flush again; it has been reported by the write that failed first.
        for file in (self._data, self._ids):
            with suppress(OSError):
                file.close()


def n_stored(folder: Path, key: str) -> int:
    """Rows of a store that may not be there, without opening it for writing."""
    path = folder / f"{key}.ids"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0
