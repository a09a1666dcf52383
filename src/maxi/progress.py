"""Progress on stderr: how far, how fast, how long still. A Ctrl-C that a library swallowed still ends the loop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from tqdm import tqdm

_interrupted = threading.Event()


def heed_interrupts() -> None:
    """Make a Ctrl-C end every loop with progress from now on.

    Python drops a KeyboardInterrupt that is raised in a destructor or callback, and some libraries drop it on import.
    """

    def note(number: int, frame: object) -> NoReturn:
        _interrupted.set()
        raise KeyboardInterrupt

    _interrupted.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note)


class Shown:
    """Items that are passed on one by one without showing anything; a Ctrl-C ends them between two items."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            if _interrupted.is_set():
                raise KeyboardInterrupt
            yield item

    def show(self, row: Mapping[str, Any]) -> None:
        """Show the figures of a training step, a row of `train.jsonl`, beside the items done so far."""


class Bar(Shown):
    """Items that are passed on with a bar that says how many are done.

    For a training it also says loss, learning rate, clips per second, and the share of the time waiting for data.
    """

    def __init__(self, items: Iterable[Any], total: int, label: str, *, leave: bool = True) -> None:
        super().__init__(items)
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=label,
            file=sys.stderr,
            dynamic_ncols=terminal,
            mininterval=0.2 if terminal else 10,
            leave=leave,
        )
        self._clips = self._seconds = self._waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        with self._bar:
            for item in super().__iter__():
                yield item
                self._bar.update()

    def show(self, row: Mapping[str, Any]) -> None:
        self._clips += row["clips"]
        self._seconds += row["seconds"]
        self._waited += row["data_seconds"]
        seconds = max(self._seconds, 1e-9)
        self._bar.set_postfix_str(
            f"loss {row['loss']:.3f} lr {row['lr']:.1e} {self._clips / seconds:.1f} clips/s "
            f"data wait {self._waited / seconds:.0%}",
            refresh=False,
        )


Progress = Callable[[Iterable[Any], int, str], Shown]
"""Passes items on and shows how far they are: (items, their number, what is done with them)."""


def bar(items: Iterable[Any], total: int, label: str) -> Shown:
    """Pass the items on and show a bar."""
    return Bar(items, total, label)


def silent(items: Iterable[Any], total: int, label: str) -> Shown:
    """Pass the items on without showing anything."""
    return Shown(items)


class Parts:
    """One bar for a task of several parts; it says which part of how many is under way: `3/8 embed`.

    The bar of the next part takes the place of the last. Where stderr is not a terminal, each part is one line.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._names = {
            label: f"{k}/{len(labels)} {label}" for k, label in enumerate(labels, start=1)
        }
        self._last = ""

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Shown:
        name = self._names.get(label, label)
        if sys.stderr.isatty():
            return Bar(items, total, name, leave=False)
        if name != self._last:
            print(name, file=sys.stderr, flush=True)
        self._last = name
        return Shown(items)


def under(label: str, progress: Progress) -> Progress:
    """Return the same progress, which shows every loop under this label."""

    def renamed(items: Iterable[Any], total: int, _: str) -> Shown:
        return progress(items, total, label)

    return renamed
