"""A store on disk that keeps one row of numbers per video id, and to which rows are only appended."""

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
    """Float32 rows of one shape by video id, in the files `<key>.f32` and `<key>.ids`.

    The first line of `.ids` is the shape of the rows, and each further line is a video id. An interruption loses at
    most the row that was being written: opening the store cuts off what is not whole in both files.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data_path, self._ids_path = folder / f"{key}.f32", folder / f"{key}.ids"
        for path in (self._data_path, self._ids_path):
            path.touch()
        head, *lines = self._ids_path.read_bytes().split(b"\n")[:-1] or [b""]
        self.shape = tuple(int(n) for n in head.split())
        lines = lines[: self._data_path.stat().st_size // self._row_bytes()]
        n_bytes = sum(len(line) + 1 for line in (head, *lines)) if head else 0
        os.truncate(self._data_path, len(lines) * self._row_bytes())
        os.truncate(self._ids_path, n_bytes)
        self._rows = {line.decode("ascii"): row for row, line in enumerate(lines)}
        self._data = self._data_path.open("ab")
        self._ids = self._ids_path.open("ab")

    def _row_bytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __contains__(self, video: str) -> bool:
        return video in self._rows

    def append(self, video: str, row: NDArray[np.float32]) -> None:
        """Write the row of a video at the end; the first row of a store sets the shape of all."""
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
        """Return the rows of these videos, in the order of `videos`: (V, *shape)."""
        gathered = np.empty((len(videos), *self.shape), dtype=np.float32)
        for i in range(0, len(videos), ROWS):
            # The file is mapped anew each time: the pages of one mapping would grow to a second copy in memory.
            data = np.memmap(self._data_path, np.float32, "r", shape=(len(self._rows), *self.shape))
            gathered[i : i + ROWS] = data[[self._rows[v] for v in videos[i : i + ROWS]]]
        return gathered

    def close(self) -> None:
        """Close both files."""
        # On a full disk the flush may fail here once more, but the write that failed first has been reported.
        for file in (self._data, self._ids):
            with suppress(OSError):
                file.close()


def n_stored(folder: Path, key: str) -> int:
    """Return how many rows a store holds, 0 when there is none, without opening it for writing."""
    path = folder / f"{key}.ids"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0
