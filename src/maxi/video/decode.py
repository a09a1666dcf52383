"""Read one video: say what is in it, and return the frames at given indices.

The header of a file is never trusted. Frames are counted by decoding them, and every reader goes
through the same packet loop, so that an index means the same frame everywhere.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.video.timing import mean_rate, shown_at
from maxi.video.upright import display_of, displayed_size, returned_size, upright

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_PIXELS = 8192 * 8192
MAX_ERRORS = 100
TS_DISCONT = 0x0200  # FFmpeg's flag of formats whose time stamps may jump

# Demuxers that read the one file they are given; playlists and `concat` scripts name further ones.
FORMATS = "mov,avi,matroska,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg"

# Titles and the like need not be UTF-8. PyAV 19 reads them in any case, earlier versions only with this option.
METADATA: dict[str, Any] = (
    {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
)


def _no_times() -> NDArray[np.float64]:
    return np.zeros(1)


def _no_keys() -> NDArray[np.int64]:
    return np.zeros((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one full decode finds: the number of frames, their mean rate per second, the displayed size in pixels.

    `times` are the seconds at which each frame is shown, and at last the end of the last frame: (n_frames + 1), from 0
    on. `keys` are the frames (index, time stamp) at which decoding can begin, as rows (N, 2); there are none where
    frames behind them might then differ. `short` says that fewer frames came than the header promises, or that parts of
    the file do not decode.
    """

    n_frames: int
    fps: float
    width: int
    height: int
    short: str | None = None
    times: NDArray[np.float64] = field(default_factory=_no_times, repr=False, compare=False)
    keys: NDArray[np.int64] = field(default_factory=_no_keys, repr=False, compare=False)

    def entry(self, first: int) -> tuple[int, int] | None:
        """Return the last of `keys` at or before a frame; None where decoding must begin at the first frame."""
        place = int(np.searchsorted(self.keys[:, 0], first, side="right")) - 1
        if place < 1:  # the first key is the first frame
            return None
        index, stamp = self.keys[place].tolist()
        return index, stamp


def probe(path: str | Path) -> Probe:
    """Decode the whole file once and return what is in it.

    Raises MaxiError with the plain reason when the file cannot be used.
    """
    size = None
    stamps: list[float | None] = []
    durations: list[float] = []
    with opened(path) as (container, stream):
        errors: list[str] = []
        keys = _Keys(container)
        for frame in decoded(container, stream, errors):
            size = size or displayed_size(frame, display_of(stream, frame))
            keys.see(frame)
            stamps.append(frame.time)
            durations.append(float((frame.duration or 0) * (frame.time_base or 0)))
        if size is None:
            raise _no_frame_error(errors)
        n_frames, seconds = len(stamps), (container.duration or 0) / av.time_base
        rate = float(stream.average_rate or 0) or (n_frames / seconds if seconds > 0 else 0.0)
        may_jump = bool(container.format.flags & TS_DISCONT)
        times = shown_at(stamps, durations, rate=rate, may_jump=may_jump)
        fps = mean_rate(times, rate)
        ends = [
            stamp + (duration or 1 / (fps or 1))
            for stamp, duration in zip(stamps, durations, strict=True)
            if stamp is not None
        ]
        short = _shortage(container, stream, n_frames=n_frames, end=max(ends, default=None))
        if short is None and errors:
            short = f"{n_frames} frames decode; packets that do not: {len(errors)} ({errors[0]})"
    return Probe(n_frames, fps, size[1], size[0], short, times, keys.found(errors))


class _Keys:
    """Finds the frames of a file at which decoding can begin so that all frames behind them are the same.

    That needs a container that marks them, time stamps that grow from frame to frame, frames of one size that are not
    turned, and no packet that fails.
    """

    def __init__(self, container: InputContainer) -> None:
        self._is_plain = bool({"mp4", "matroska"} & set(container.format.name.split(",")))
        self._keys: list[tuple[int, int]] = []
        self._n = 0
        self._last: int | None = None
        self._size: tuple[int, int] | None = None

    def see(self, frame: av.VideoFrame) -> None:
        """Take the next frame."""
        self._size = self._size or (frame.width, frame.height)
        grows = frame.pts is not None and (self._last is None or frame.pts > self._last)
        # Side data is asked of the first frame alone: PyAV binds it in a cycle, which keeps the frame in memory.
        turned = self._n == 0 and frame.side_data.get("DISPLAYMATRIX") is not None  # type: ignore[call-overload]
        if turned or not grows or (frame.width, frame.height) != self._size:
            self._is_plain = False
        elif frame.key_frame and self._is_plain and frame.pts is not None:
            self._keys.append((self._n, frame.pts))
        self._n, self._last = self._n + 1, frame.pts

    def found(self, errors: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows (N, 2) of index and time stamp."""
        return np.array(self._keys if self._is_plain and not errors else [], np.int64).reshape(
            -1, 2
        )


def decode_frames(
    path: str | Path, indices: Sequence[int], seek: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Return the frames at `indices` as RGB, uint8 (T, H, W, 3), all in the displayed size of the file's first frame.

    Frames with more pixels than `upright.LARGEST` are shrunk to so many. Indices count decoded frames from 0; they may
    repeat, and their order is free. Where the file has fewer frames, the last one is repeated. With `seek`, a row of
    `Probe.keys` before all indices, decoding begins at that frame, where the file can be entered there. Raises
    MaxiError with the plain reason when the file cannot be used.
    """
    check_indices(indices)
    if seek and seek[0] and (frames := _decode(path, indices, seek)) is not None:
        return frames
    frames = _decode(path, indices, None)
    assert frames is not None
    return frames


def _decode(
    path: str | Path, indices: Sequence[int], seek: tuple[int, int] | None
) -> NDArray[np.uint8] | None:
    """Return frames as `decode_frames` does; None where the frame to begin with is not found."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, index in enumerate(indices):
        places[index].append(place)
    last = max(indices)
    with opened(path) as (container, stream):
        errors: list[str] = []
        frames: NDArray[np.uint8] | None = None
        for index, frame in _numbered(container, stream, errors, seek):
            if frames is None:
                display = display_of(stream, frame)
                height, width = returned_size(*displayed_size(frame, display))
                frames = np.empty((len(indices), height, width, 3), np.uint8)
            if index in places:
                frames[places.pop(index)] = upright(frame, display, height, width)
            if index == last:
                break
        if frames is None:
            if seek:
                return None
            raise _no_frame_error(errors)
        if missing := [place for group in places.values() for place in group]:
            if seek and errors:
                return None
            frames[missing] = upright(frame, display, height, width)
    return frames


def _numbered(
    container: InputContainer,
    stream: VideoStream,
    errors: list[str],
    seek: tuple[int, int] | None,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the frames with their indices, from the first on or from that of `seek`; none where that is not found."""
    if seek is None:
        yield from enumerate(decoded(container, stream, errors))
        return
    index, stamp = seek
    try:
        container.seek(stamp, stream=stream)
    except (OSError, av.FFmpegError):
        return
    frames = decoded(container, stream, errors)
    for frame in frames:
        if frame.pts is None or frame.pts > stamp:
            return
        if frame.pts == stamp:
            yield index, frame
            yield from enumerate(frames, index + 1)
            return


def check_indices(indices: Sequence[int]) -> None:
    """Raise ValueError for indices that no video can have, which is a mistake of the caller."""
    if not indices or min(indices) < 0:
        raise ValueError("indices must be one or more numbers from 0 on")


def centre_indices(n_total: int, n: int) -> list[int]:
    """Return the index of the centre frame of each of `n` equal segments, which is TSN's sampling for tests."""
    return [int((i + 0.5) * n_total / n) for i in range(n)]


def clip_indices(n_total: int, n: int, n_clips: int) -> list[list[int]]:
    """Return the indices of `n_clips` clips: each takes one frame of each of `n` equal segments, spread over it.

    A single clip takes the centres, as `centre_indices`.
    """
    return [
        [int((i + (clip + 0.5) / n_clips) * n_total / n) for i in range(n)]
        for clip in range(n_clips)
    ]


def tsn_indices(n_total: int, n: int, rng: np.random.Generator) -> list[int]:
    """Draw the index of one frame from each of `n` segments of floor(n_total / n) frames (paper Sec. 4.2; TSN).

    For a video of fewer than `n` frames, return evenly spaced indices, some of them more than once.
    """
    length = n_total // n
    if length == 0:
        return [min(round(i * n_total / n), n_total - 1) for i in range(n)]
    return [i * length + int(offset) for i, offset in enumerate(rng.integers(length, size=n))]


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a local file to be decoded in one thread; raises MaxiError with the plain reason when it cannot be used."""
    if not os.path.exists(path):
        raise MaxiError("does not exist")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise MaxiError("empty file")
    try:
        # Without `file:`, a name with a colon would be taken for an address.
        container = av.open(
            "file:" + os.path.abspath(path),
            options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            **METADATA,
        )
    except MemoryError as error:
        raise MaxiError("needs more memory than there is") from error
    except (OSError, av.FFmpegError) as error:
        if error.errno == errno.EINVAL:  # how FFmpeg refuses what is not in the white lists
            raise MaxiError(f"not a video of a known format ({FORMATS})") from error
        kind = "cannot be read" if isinstance(error, OSError) else "not a video"
        raise MaxiError(f"{kind} ({_reason(error)})") from error
    with container:
        stream = container.streams.best("video")
        cover = av.stream.Disposition.attached_pic
        if not isinstance(stream, VideoStream) or stream.disposition & cover:
            raise MaxiError("no video stream")
        if stream.codec_context is None:
            raise MaxiError("its codec is not known here; convert it to H.264")
        _check_size(stream.width, stream.height)
        stream.thread_count = 1
        try:
            yield container, stream
        except MemoryError as error:
            raise MaxiError("needs more memory than there is") from error


def decoded(
    container: InputContainer, stream: VideoStream, errors: list[str]
) -> Iterator[av.VideoFrame]:
    """Yield the frames that decode, in order of display; append to `errors` why a packet does not decode."""
    packets = container.demux(stream)
    while len(errors) < MAX_ERRORS:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError:
            raise
        except (OSError, av.FFmpegError) as error:
            errors.append(_reason(error))
            packets = container.demux(stream)
            continue
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            errors.append(_reason(error))
            continue
        for frame in frames:
            _check_size(frame.width, frame.height)
            yield frame


def _no_frame_error(errors: list[str]) -> MaxiError:
    return MaxiError(f"no frame decodes ({errors[0]})" if errors else "no frame decodes")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MaxiError(
            f"its frames of {width}x{height} are larger than the limit of {MAX_PIXELS} pixels"
        )


def _shortage(
    container: InputContainer, stream: VideoStream, *, n_frames: int, end: float | None
) -> str | None:
    """Say it in words when less than 90 % of what the header promises came, else return None; `end` is in seconds."""
    # In an MP4, `stream.frames` also counts frames that its edit list cuts, so there the duration decides.
    if stream.frames and "mov" not in container.format.name:
        too_few = n_frames < 0.9 * stream.frames
        return f"{n_frames} of {stream.frames} frames decode" if too_few else None
    if stream.duration is not None and stream.time_base:
        promised = float(stream.duration * stream.time_base)
        begin = float((stream.start_time or 0) * stream.time_base)
    else:
        promised = (container.duration or 0) / av.time_base
        begin = (container.start_time or 0) / av.time_base
    if end is None or end - begin >= 0.9 * promised:
        return None
    if stream.frames:
        return f"{n_frames} of {stream.frames} frames decode"
    return f"the picture ends after {end - begin:.1f} of {promised:.1f} s"
