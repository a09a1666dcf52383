"""A store on disk that keeps one row of numbers per video id, and to which rows are only appended."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError

ROWS = 1024  # stored rows handled at a time
MAX_NUMBERS = 1 << 32  # of a row
_LINE = re.compile(rb"([!-~]+) ([0-9a-f]{8})")


class FeatureStore:
    """Float32 rows of one shape by video id, in the files `<key>.f32` and `<key>.ids`.

    The first line of `.ids` is the shape of the rows; each further line is a video id and the CRC-32 of its row. An
    interruption loses at most the row that was being written: opening the store cuts off what is not whole in both
    files.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data_path, self._ids_path = folder / f"{key}.f32", folder / f"{key}.ids"
        for path in (self._data_path, self._ids_path):
            path.touch()
        head, *lines = self._ids_path.read_bytes().split(b"\n")[:-1] or [b""]
        self.shape = _shape(head)
        lines = lines[: self._data_path.stat().st_size // self._row_bytes()] if self.shape else []
        entries = [
            match.groups() for match in takewhile(bool, map(_LINE.fullmatch, lines)) if match
        ]
        n_bytes = sum(len(line) + 1 for line in (head, *lines[: len(entries)])) if entries else 0
        self.shape = self.shape if entries else ()
        self._n_rows = len(entries)
        os.truncate(self._data_path, self._n_rows * self._row_bytes())
        os.truncate(self._ids_path, n_bytes)
        self._rows = {video.decode("ascii"): row for row, (video, _) in enumerate(entries)}
        self._checksums = [int(checksum, 16) for _, checksum in entries]
        self._data = self._data_path.open("ab")
        self._ids = self._ids_path.open("ab")

    def _row_bytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __contains__(self, video: str) -> bool:
        return video in self._rows

    def append(self, video: str, row: NDArray[np.float32]) -> None:
        """Write the row of a video at the end; the first row of a store sets the shape of all.

        Raises MaxiError when the stored rows have another shape.
        """
        content = np.ascontiguousarray(row, dtype=np.float32).tobytes()
        line = f"{video} {zlib.crc32(content):08x}\n"
        if not self.shape:
            self.shape = row.shape
            line = " ".join(map(str, row.shape)) + "\n" + line
        if row.shape != self.shape:
            raise self._damaged()
        self._data.write(content)
        self._data.flush()
        self._ids.write(line.encode("ascii"))
        self._ids.flush()
        self._rows[video] = self._n_rows
        self._checksums.append(zlib.crc32(content))
        self._n_rows += 1

    def gather(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of these videos, in the order of `videos`: (V, *shape).

        Raises MaxiError when a row is not what was written.
        """
        gathered = np.empty((len(videos), *self.shape), dtype=np.float32)
        for i in range(0, len(videos), ROWS):
            # The file is mapped anew each time: the pages of one mapping would grow to a second copy in memory.
            data = np.memmap(self._data_path, np.float32, "r", shape=(self._n_rows, *self.shape))
            rows = [self._rows[v] for v in videos[i : i + ROWS]]
            gathered[i : i + ROWS] = data[rows]
            for row, values in zip(rows, gathered[i : i + ROWS], strict=True):
                if zlib.crc32(values.tobytes()) != self._checksums[row]:
                    raise self._damaged()
        return gathered

    def _damaged(self) -> MaxiError:
        return MaxiError(
            f"{self._data_path}: not what was written there; remove the folder {self._data_path.parent}, "
            "whose content is made again"
        )

    def close(self) -> None:
        """Close both files."""
        # On a full disk the flush may fail here once more, but the write that failed first has been reported.
        for file in (self._data, self._ids):
            with suppress(OSError):
                file.close()


def _shape(head: bytes) -> tuple[int, ...]:
    """Return the shape that the first line of `.ids` states; () when it states none."""
    shape = tuple(int(n) for n in head.split()) if re.fullmatch(rb"[\d ]{1,40}", head) else ()
    return shape if 0 < math.prod(shape) < MAX_NUMBERS else ()


def n_stored(folder: Path, key: str) -> int:
    """Return how many rows a store holds, 0 when there is none, without opening it for writing."""
    path = folder / f"{key}.ids"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0
