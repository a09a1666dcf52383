"""`maxi.video.timing`: stamps that begin anew, jump, are missing or out of order, and windows cut by them."""

from __future__ import annotations

import numpy as np
import pytest

from maxi.video.timing import cut, mean_rate, shown_at


def times_of(
    stamps: list[float | None], last: float = 0.1, *, rate: float = 10, may_jump: bool = False
) -> list[float]:
    durations = [last] * len(stamps)
    times = shown_at(stamps, durations, rate=rate, may_jump=may_jump)
    return [round(time, 6) for time in times.tolist()]


def test_times_begin_at_the_first_frame() -> None:
    assert times_of([1.4, 1.5, 1.6]) == [0, 0.1, 0.2, 0.3]
    assert times_of([0.0, 23.0, 23.5]) == [0, 23, 23.5, 23.6]  # one picture may stay for long


def test_what_was_joined_goes_on() -> None:
    assert times_of([5.0, 5.1, 5.2, 0.0, 0.1]) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    stamps: list[float | None] = [0.0, 0.1, 0.2, 3600.2, 3600.3]
    assert times_of(stamps, may_jump=True) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert times_of(stamps)[-1] == 3600.4


def test_missing_and_odd_stamps() -> None:
    assert times_of([0.0, None, 0.2, 0.3]) == [0, 0.1, 0.2, 0.3, 0.4]
    assert times_of([None, 0.1, None, None, 0.7, None], last=0.5) == [0, 0.2, 0.4, 0.6, 0.8, 1, 1.5]
    assert times_of([None, None, None], last=0) == [0, 0.1, 0.2, 0.3]
    assert times_of([None, None], last=0, rate=0) == [0, 0, 0]
    assert times_of([0.0, 0.2, 0.1, 0.3]) == [0, 0.2, 0.2, 0.3, 0.4]
    assert times_of([0.0, 0.0, 0.1, 0.1], last=0.05) == [0, 0, 0.1, 0.1, 0.15]


@pytest.mark.parametrize(("declared", "rate"), [(10.0, 10.0), (10.2, 10.2), (90_000.0, 10.0)])
def test_the_mean_rate_is_the_headers_where_it_is_right(declared: float, rate: float) -> None:
    assert mean_rate(np.arange(21) / 10, declared) == pytest.approx(rate)


def test_windows_hold_the_frames_of_their_time() -> None:
    slow_then_fast = np.concatenate([np.arange(20.0), 20 + np.arange(301) / 30])
    windows = cut(slow_then_fast, 10)
    assert [w.frames for w in windows] == [(0, 10), (10, 20), (20, 320)]
    assert [(w.start, w.end) for w in windows] == [(0, 10), (10, 20), (20, 30)]


def test_windows_without_a_beginning_frame_hold_the_one_on_show() -> None:
    windows = cut(np.array([0.0, 1, 31, 32, 40]), 10)
    assert [w.frames for w in windows] == [(0, 2), (1, 2), (1, 2), (2, 4)]
    assert [w.frames for w in cut(np.array([0.0, 1, 2]), 0.1)] == [(0, 1), (1, 2)]


def test_a_short_video_is_one_window() -> None:
    for times, seconds in (([0.0, 1, 2], 10.0), ([0.0, 1, 2], 0.0), ([0.0, 0], 1.0)):
        (window,) = cut(np.array(times), seconds)
        assert window.frames == (0, len(times) - 1)
        assert (window.start, window.end) == (0, times[-1])
