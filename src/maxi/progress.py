"""Progress on stderr: how far, how fast, how long still."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Pass the items on and show a bar; training steps (dicts) add loss, lr, clips/s and the share of data wait."""
    terminal = sys.stderr.isatty()
    shown = tqdm(
        total=total,
        desc=label,
        file=sys.stderr,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 10,
        leave=True,
    )
    clips = seconds = waited = 0.0
    with shown:
        for item in items:
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
    yield from items
