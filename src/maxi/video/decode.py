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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from maxi.errors import MaxiError

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_PIXELS = 8192 * 8192
MAX_ERRORS = 100

# Demuxers that read the one file they are given; playlists and `concat` scripts name further ones.
FORMATS = "mov,avi,matroska,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg"

# Titles and the like need not be UTF-8. PyAV 19 reads them in any case, earlier versions only with this option.
METADATA: dict[str, Any] = (
    {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one full decode finds: the number of frames, their mean rate per second, the displayed size in pixels.

    `short` says that fewer frames came than the header promises, or that parts of the file do not decode.
    """

    n_frames: int
    fps: float
    width: int
    height: int
    short: str | None = None


def probe(path: str | Path) -> Probe:
    """Decode the whole file once and return what is in it.

    Raises MaxiError with the plain reason when the file cannot be used.
    """
    n_frames = height = width = 0
    spans: list[tuple[float, float]] = []
    with _opened(path) as (container, stream):
        errors: list[str] = []
        for frame in _frames(container, stream, errors):
            if n_frames == 0:
                height, width = _displayed_size(frame)
            n_frames += 1
            if frame.time is not None:
                spans.append((frame.time, float(frame.duration * (frame.time_base or 0))))
        if n_frames == 0:
            raise _no_frame_error(errors)
        fps = _mean_rate(stream, [start for start, _ in spans])
        end = max((start + (duration or 1 / (fps or 1)) for start, duration in spans), default=None)
        short = _shortage(container, stream, n_frames=n_frames, end=end)
        if short is None and errors:
            short = f"{n_frames} frames decode; packets that do not: {len(errors)} ({errors[0]})"
    return Probe(n_frames, fps, width, height, short)


def decode_frames(path: str | Path, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Return the frames at `indices` as RGB, uint8 (T, H, W, 3), all in the displayed size of the file's first frame.

    Indices count decoded frames from 0; they may repeat, and their order is free. Where the file has
    fewer frames, the last one is repeated. Raises MaxiError with the plain reason when the file cannot be used.
    """
    check_indices(indices)
    places: dict[int, list[int]] = defaultdict(list)
    for place, index in enumerate(indices):
        places[index].append(place)
    last = max(indices)
    with _opened(path) as (container, stream):
        errors: list[str] = []
        frames: NDArray[np.uint8] | None = None
        for index, frame in enumerate(_frames(container, stream, errors)):
            if frames is None:
                height, width = _displayed_size(frame)
                frames = np.empty((len(indices), height, width, 3), np.uint8)
            if index in places:
                frames[places.pop(index)] = _rgb(frame, height, width)
            if index == last:
                break
        if frames is None:
            raise _no_frame_error(errors)
        if missing := [place for group in places.values() for place in group]:
            frames[missing] = _rgb(frame, height, width)
    return frames


def check_indices(indices: Sequence[int]) -> None:
    """Raise ValueError for indices that no video can have, which is a mistake of the caller."""
    if not indices or min(indices) < 0:
        raise ValueError("indices must be one or more numbers from 0 on")


def centre_indices(n_total: int, n: int) -> list[int]:
    """Return the index of the centre frame of each of `n` equal segments, which is TSN's sampling for tests."""
    return [int((i + 0.5) * n_total / n) for i in range(n)]


def tsn_indices(n_total: int, n: int, rng: np.random.Generator) -> list[int]:
    """Draw the index of one frame from each of `n` segments of floor(n_total / n) frames (paper Sec. 4.2; TSN).

    For a video of fewer than `n` frames, return evenly spaced indices, some of them more than once.
    """
    length = n_total // n
    if length == 0:
        return [min(round(i * n_total / n), n_total - 1) for i in range(n)]
    return [i * length + int(offset) for i, offset in enumerate(rng.integers(length, size=n))]


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
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


def _frames(
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


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Return how many counter-clockwise quarter turns the display matrix asks for, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _displayed_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return height and width in pixels after rotation."""
    sides = frame.height, frame.width
    return sides if _quarter_turns(frame) % 2 == 0 else (sides[1], sides[0])


def _rgb(frame: av.VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
    """Return the upright frame as RGB, uint8 (H, W, 3), scaled to this size where the file changes its own midway."""
    turns = _quarter_turns(frame)
    if turns % 2:
        height, width = width, height
    return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)


def _mean_rate(stream: VideoStream, times: list[float]) -> float:
    """Return frames per second: the header's rate where the time stamps (seconds) agree with it, else their own."""
    declared = float(stream.average_rate or 0)
    seconds = max(times) - min(times) if times else 0.0
    if not seconds:
        return declared
    measured = (len(times) - 1) / seconds
    # Time stamps in whole milliseconds turn 29.97 into 29.96, so only a difference over 5 % counts.
    return declared if abs(measured - declared) <= 0.05 * measured else measured


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
