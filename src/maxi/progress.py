"""Progress on stderr: how far, how fast, how long still; and where a Ctrl-C is heeded that a library swallowed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from tqdm import tqdm

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Passes items on and shows how far they are: (items, their number, what is done with them)."""

_interrupted = threading.Event()


def heed_interrupts() -> None:
    """From now on a Ctrl-C ends every loop with progress.

    Python drops a KeyboardInterrupt that is raised in a destructor or callback, and some libraries drop it on import.
    """

    def note(number: int, frame: object) -> NoReturn:
        _interrupted.set()
        raise KeyboardInterrupt

    _interrupted.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note)


def _heeding(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if _interrupted.is_set():
            raise KeyboardInterrupt
        yield item


def bar(items: Iterable[Any], total: int, label: str, *, leave: bool = True) -> Iterator[Any]:
    """Pass the items on and show a bar; training steps (dicts) add loss, lr, clips/s and the share of data wait.

    The finished bar stays on the terminal unless `leave` is false.
    """
    terminal = sys.stderr.isatty()
    shown = tqdm(
        total=total,
        desc=label,
        file=sys.stderr,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 10,
        leave=leave,
    )
    clips = seconds = waited = 0.0
    with shown:
        for item in _heeding(items):
            if isinstance(item, dict):
                clips, seconds = clips + item["clips"], seconds + item["seconds"]
                waited += item["data_seconds"]
                shown.set_postfix_str(
                    f"loss {item['loss']:.3f} lr {item['lr']:.1e} {clips / max(seconds, 1e-9):.1f} clips/s "
                    f"data wait {waited / max(seconds, 1e-9):.0%}",
                    refresh=False,
                )
            shown.update()
            yield item


def silent(items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Pass the items on without showing anything."""
    yield from _heeding(items)


class Parts:
    """One bar for a task of several parts, which says how many of them there are and which is under way: `3/8 embed`.

    The bar of the next part takes the place of the last. Where stderr is no terminal, each part is one line.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._names = {
            label: f"{k}/{len(labels)} {label}" for k, label in enumerate(labels, start=1)
        }
        self._shown = ""

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        name = self._names.get(label, label)
        if sys.stderr.isatty():
            yield from bar(items, total, name, leave=False)
            return
        if name != self._shown:
            print(name, file=sys.stderr, flush=True)
        self._shown = name
        yield from _heeding(items)


def under(label: str, progress: Progress) -> Progress:
    """The same progress with every loop under this label."""

    def renamed(items: Iterable[Any], total: int, _: str) -> Iterable[Any]:
        return progress(items, total, label)

    return renamed
