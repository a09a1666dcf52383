"""Replies of models, kept on disk by what was asked: never paid for twice, and an interrupted run goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxi.files import WithoutLocksError, cache_folder, digest, parse_json, try_lock, write_text

_claimed: set[Path] = set()
_guard = threading.Lock()


@dataclass(frozen=True)
class Replies:
    """One file for each question, named by the digest of `asker` and question: no text becomes a file name."""

    asker: Any  # whatever decides the reply beside the question

    def find(self, question: Any) -> str | None:
        """The reply that was kept, if any; a damaged file is none."""
        try:
            kept = parse_json(self._path(question).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        reply = kept.get("reply") if isinstance(kept, dict) else None
        return reply if isinstance(reply, str) else None

    def keep(self, question: Any, reply: str) -> None:
        """Write a reply, at once or not at all."""
        path = self._path(question)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, [json.dumps({"reply": reply})])

    def claim(self, question: Any) -> Callable[[], None] | None:
        """Take the right to ask a question, and return the function that gives it up.

        Returns None while another thread or process has it. On a file system without locks, only threads are kept out.
        """
        path = self._path(question).with_suffix(".lock")
        with _guard:
            if path in _claimed:
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = try_lock(path)
            except WithoutLocksError:
                file = None
            except BlockingIOError:
                return None
            _claimed.add(path)

        def give_up() -> None:
            with _guard, suppress(OSError):
                _claimed.discard(path)
                path.unlink(
                    missing_ok=True
                )  # while it is locked, so that no other's lock is removed
                if file:
                    file.close()

        return give_up

    def _path(self, question: Any) -> Path:
        key = digest(self.asker, question)
        return cache_folder() / "replies" / key[:2] / f"{key}.json"
