"""Store a few small frames of each video, so that it is decoded once: raw or JPEG, in shards with an index."""

from __future__ import annotations

import io
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from maxi.config import CacheConfig
from maxi.errors import MaxiError
from maxi.files import digest, parse_json, write_text
from maxi.records import Video
from maxi.video.decode import centre_indices
from maxi.video.transforms import shrink, shrunk_size

SHARD_BYTES = 2**30  # a shard that is larger gets no further video

Frames = NDArray[np.uint8]


class StoredFrames(NamedTuple):
    """The frames of a video, each as the bytes that are stored, and their size in pixels."""

    height: int
    width: int
    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class Record:
    """Where the frames of a video lie, one behind the other, in a shard from the byte `offset` on.

    `height` and `width` are in pixels, `checksums` are the crc32 of each frame, and `lengths` the bytes
    of each; they are None for raw frames, which are all equally long.
    """

    shard: int
    offset: int
    height: int
    width: int
    checksums: array[int]
    lengths: array[int] | None

    @property
    def n_bytes(self) -> int:
        """Bytes of all frames together."""
        raw = self.height * self.width * 3
        return sum(self.lengths) if self.lengths else raw * len(self.checksums)

    def bounds(self) -> list[int]:
        """Return the first byte of each frame, and at last the end of the last frame."""
        raw = [self.height * self.width * 3] * len(self.checksums)
        return list(accumulate(self.lengths or raw, initial=self.offset))


def stored_indices(video: Video, config: CacheConfig) -> tuple[int, ...]:
    """Return the indices of the frames that are stored: the centres of equal segments, or all of a shorter video."""
    return tuple(centre_indices(video.n_frames, min(config.n_frames, video.n_frames)))


def n_pixels(video: Video, config: CacheConfig) -> int:
    """Return how many pixels the stored frames of a video have; raw frames take three bytes for each pixel."""
    height, width = shrunk_size(video.height, video.width, config.short_side)
    return height * width * len(stored_indices(video, config))


def pack(frames: Frames, config: CacheConfig) -> StoredFrames:
    """Shrink the short side of decoded frames, uint8 (T, H, W, 3), and encode each frame alone, as it is stored."""
    images = shrink(torch.from_numpy(frames).permute(0, 3, 1, 2), config.short_side)
    small = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    _, height, width, _ = small.shape
    return StoredFrames(height, width, [_encoded(frame, config) for frame in small])


def _encoded(frame: Frames, config: CacheConfig) -> bytes:
    """Return the bytes that are stored of one frame (H, W, 3)."""
    if config.format == "raw":
        return frame.tobytes()
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=config.quality)
    return file.getvalue()


def _decoded(data: bytes, config: CacheConfig) -> Frames:
    """Return the pixels of one stored frame: (H, W, 3), or flat where frames are stored raw."""
    if config.format == "raw":
        return np.frombuffer(data, np.uint8)
    return np.asarray(Image.open(io.BytesIO(data)))


def store_key(config: CacheConfig) -> str:
    """Return 16 hex digits, which change with every setting that changes what is stored of a video."""
    return digest("frames", config.decisive())


class FrameStore:
    """The stored frames of videos by their ids, in `shard-00000.bin`, `shard-00001.bin`, ... and `index.jsonl`.

    A store that is opened only reads, and a video whose frames are not all there counts as absent. The first write
    cuts off what the shards and the index do not both hold, so that an interruption loses at most the video in work.
    `lost` holds the videos that did not decode, with the reasons; `cut` holds those of which the index says more than
    the shards hold.
    """

    def __init__(self, folder: Path, config: CacheConfig) -> None:
        self.folder = folder / store_key(config)
        self.config = config
        self.lost: dict[str, str] = {}
        self._index_path = self.folder / "index.jsonl"
        self._records: dict[str, Record] = {}
        self.cut: set[str] = set()
        self._files: tuple[IO[bytes], IO[str]] | None = (
            None  # the last shard and the index, once written to
        )
        self._shard = self._end = 0  # where the next frames go
        self._torn = (
            False  # whether lines of the index are broken, or say more than the shards hold
        )
        self._read_index()

    def __contains__(self, video: str) -> bool:
        return video in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def n_frames(self, video: str) -> int:
        """Return how many frames of a video are stored."""
        return len(self._records[video].checksums)

    def n_bytes(self, video: str) -> int:
        """Return how many bytes the stored frames of a video take."""
        return self._records[video].n_bytes

    def read(self, video: str, indices: Sequence[int]) -> Frames:
        """Return the stored frames at `indices` as RGB, uint8 (T, H, W, 3); any thread may call this.

        Raises MaxiError when the shard cannot be read or a frame is not what was written.
        """
        record = self._records[video]
        shape = (record.height, record.width, 3)
        frames = np.empty((len(indices), *shape), np.uint8)
        for place, data in enumerate(self._checked(record, indices)):
            frames[place] = _decoded(data, self.config).reshape(shape)
        return frames

    def verify(self, video: str) -> None:
        """Raise MaxiError when the shard cannot be read or one of the video's frames is not what was written."""
        record = self._records[video]
        for _ in self._checked(record, range(len(record.checksums))):
            pass

    def _checked(self, record: Record, indices: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of the frames at `indices`, each after its checksum has been compared."""
        path, bounds = self._path(record.shard), record.bounds()
        try:
            # Opened for each video, since a large collection has more shards than a process may hold open.
            with path.open("rb", buffering=0) as file:
                for index in indices:
                    file.seek(bounds[index])
                    data = file.read(bounds[index + 1] - bounds[index])
                    if zlib.crc32(data) != record.checksums[index]:
                        raise MaxiError(
                            f"damaged in {path}; `maxi cache --check` finds such videos"
                        )
                    yield data
        except OSError as error:
            raise MaxiError(f"{path}: {error.strerror}") from error

    def append(self, video: str, packed: StoredFrames) -> None:
        """Write the frames of a video behind those that are there."""
        shard_file, index_file = self._files or self._open()
        if self._end > SHARD_BYTES:
            self.close()
            self._shard, self._end = self._shard + 1, 0
            shard_file, index_file = self._open()
        lengths = array("I", map(len, packed.frames))
        record = Record(
            self._shard,
            self._end,
            packed.height,
            packed.width,
            array("I", map(zlib.crc32, packed.frames)),
            lengths if self.config.format == "jpeg" else None,
        )
        shard_file.writelines(packed.frames)
        shard_file.flush()
        index_file.write(_to_line(video, record))
        index_file.flush()
        self._records[video] = record
        self._end += sum(lengths)
        self.lost.pop(video, None)

    def lose(self, video: str, reason: str) -> None:
        """Write down that a video does not decode, and why."""
        if self.lost.get(video) == reason:
            return
        _, index_file = self._files or self._open()
        index_file.write(_lost_line(video, reason))
        index_file.flush()
        self.lost[video] = reason

    def drop(self, videos: Iterable[str]) -> None:
        """Forget the frames of these videos; their bytes stay in the shard."""
        self.close()
        for video in videos:
            self._records.pop(video, None)
        self._write_index()

    def close(self) -> None:
        """Close the files; the next write opens them again."""
        # On a full disk closing may fail once more; the write that failed first has reported it.
        for file in self._files or ():
            with suppress(OSError):
                file.close()
        self._files = None

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.bin"

    def _read_index(self) -> None:
        """Take over the videos of the index whose frames the shards hold."""
        sizes: dict[int, int] = {}
        if not self._index_path.is_file():
            return
        with self._index_path.open("rb") as file:
            for line in file:
                try:
                    video, record = _from_line(line)
                except (ValueError, KeyError, TypeError, OverflowError):
                    self._torn = True
                    continue
                if isinstance(record, str):
                    self.lost[video] = record
                    continue
                if record.shard not in sizes:
                    sizes[record.shard] = _size(self._path(record.shard))
                end = record.offset + record.n_bytes
                if end > sizes[record.shard]:
                    self._torn = True
                    self.cut.add(video)
                    continue
                self._records[video] = record
                self.cut.discard(video)
                self.lost.pop(video, None)
                self._shard, self._end = max((self._shard, self._end), (record.shard, end))

    def _write_index(self) -> None:
        """Write the index anew, with what is known of each video now."""
        lost = (_lost_line(video, reason) for video, reason in self.lost.items())
        kept = (_to_line(video, record) for video, record in self._records.items())
        write_text(self._index_path, chain(lost, kept))
        self._torn = False

    def _open(self) -> tuple[IO[bytes], IO[str]]:
        """Open the last shard and the index for appending, and cut off what they do not both hold."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._torn:
            self._write_index()
        path = self._path(self._shard)
        path.touch()
        os.truncate(path, self._end)
        self._files = path.open("ab"), self._index_path.open("a", encoding="utf-8")
        return self._files


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 when it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _to_line(video: str, record: Record) -> str:
    row: dict[str, Any] = {
        "video": video,
        "at": [record.shard, record.offset],
        "size": [record.height, record.width],
        "crc32": list(record.checksums),
    }
    if record.lengths:
        row["bytes"] = list(record.lengths)
    return json.dumps(row, separators=(",", ":")) + "\n"


def _lost_line(video: str, reason: str) -> str:
    return json.dumps({"video": video, "lost": reason}) + "\n"


def _from_line(line: bytes) -> tuple[str, Record | str]:
    """Return a video and its record, or why it is lost; raises errors of many kinds when the line is not whole."""
    if not line.endswith(b"\n"):
        raise ValueError("cut")
    row = parse_json(line)
    if "lost" in row:
        return str(row["video"]), str(row["lost"])
    lengths = array("I", row["bytes"]) if "bytes" in row else None
    (shard, offset), (height, width) = row["at"], row["size"]
    return str(row["video"]), Record(
        int(shard), int(offset), int(height), int(width), array("I", row["crc32"]), lengths
    )
