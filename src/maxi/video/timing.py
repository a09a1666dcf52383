"""When each frame is shown: the stamps of a stream, with its restarts and gaps repaired."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACK = 0.5
"""Stamps that fall by more seconds begin anew, as where two files were joined; by less, they are out of order."""

GAP = 10.0
"""Seconds; FFmpeg's own limit. A longer step is a gap in broadcast formats, whose stamps may jump."""


def shown_at(
    stamps: Sequence[float | None],
    durations: Sequence[float],
    *,
    rate: float,
    may_jump: bool,
) -> NDArray[np.float64]:
    """Return when each of N frames is shown, and when the last one ends: (N + 1), in seconds from the first frame.

    `stamps` and `durations` (0 where unknown) are in seconds, as the file states them; `rate` is the header's in frames
    per second, or 0. Times never decrease. Where stamps begin anew or, with `may_jump`, leave a gap, the next frame
    follows the last one at the usual distance. Frames without a stamp are spread evenly between those that have one.
    """
    n_frames, all_stamps = len(stamps), np.array(stamps, np.float64)  # NaN where a stamp is None
    known = np.flatnonzero(~np.isnan(all_stamps))
    jumps, n_steps = np.diff(all_stamps[known]), np.diff(known)
    is_right = (jumps >= -BACK) & ~((jumps > GAP * n_steps) & may_jump)
    shares = jumps / n_steps  # of each step from one known stamp to the next
    usual_shares = shares[is_right & (shares > 0)]
    usual = float(np.median(usual_shares)) if len(usual_shares) else 1 / rate if rate > 0 else 0.0
    steps = np.full(n_frames, usual)
    if len(known):
        steps[known[0] : known[-1]] = np.repeat(np.where(is_right, shares, usual), n_steps)
    if durations[-1] > 0:
        steps[-1] = durations[-1]
    times = np.concatenate([[0.0], np.cumsum(steps)])
    return np.maximum.accumulate(times)


def mean_rate(times: NDArray[np.float64], rate: float) -> float:
    """Return frames per second: the header's `rate` where the times of `shown_at` agree with it, else their own."""
    seconds = float(times[-2] - times[0])
    if not seconds:
        return rate
    measured = (len(times) - 2) / seconds
    # Time stamps in whole milliseconds turn 29.97 into 29.96, so only a difference over 5 % counts.
    return rate if abs(measured - rate) <= 0.05 * measured else measured


class Window(NamedTuple):
    """A part of a video: its first frame and the first frame behind it, and its bounds in seconds."""

    frames: tuple[int, int]
    start: float
    end: float


def cut(times: NDArray[np.float64], seconds: float) -> list[Window]:
    """Cut a video, given by the times of `shown_at`, in windows of equal length, as near to `seconds` as can be.

    A window in which no frame begins holds the one that is on show. There is one window for a shorter video, or where
    `seconds` is 0, and there are never more windows than frames.
    """
    n_frames, total = len(times) - 1, float(times[-1])
    n = min(n_frames, max(1, round(total / seconds))) if seconds else 1
    bounds = np.linspace(0, total, n + 1)
    # A frame that begins at a bound belongs behind it, in spite of rounding.
    behind = np.searchsorted(times[:-1], bounds - 1e-6)
    behind[-1] = n_frames
    return [
        Window((min(first, last - 1), last), float(start), float(end))
        for (first, last), (start, end) in zip(
            pairwise(behind.tolist()), pairwise(bounds), strict=True
        )
    ]


def between(times: NDArray[np.float64], start: float, end: float) -> Window | None:
    """Return the part of a video, given by the times of `shown_at`, whose frames begin from `start` to before `end`.

    A part in which no frame begins holds the one that is on show. Returns None where the video ends before `start`.
    """
    total = float(times[-1])
    if start >= total:
        return None
    first, last = np.searchsorted(times[:-1], [start - 1e-6, end - 1e-6]).tolist()
    return Window((min(first, max(0, last - 1)), max(last, 1)), start, min(end, total))
