"""Replies of models, kept on disk by what was asked: never paid for twice, and an interrupted run goes on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxi.files import digest, write_text


def cache_folder() -> Path:
    """`MAXI_CACHE`, else `maxi` in the user's cache folder."""
    if own := os.environ.get("MAXI_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxi"


@dataclass(frozen=True)
class Replies:
    """One file for each question, named by the digest of `asker` and question: no text becomes a file name."""

    asker: Any  # whatever decides the reply beside the question

    def find(self, question: Any) -> str | None:
        """The reply that was kept, if any; a damaged file is none."""
        try:
            kept = json.loads(self._path(question).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        reply = kept.get("reply") if isinstance(kept, dict) else None
        return reply if isinstance(reply, str) else None

    def keep(self, question: Any, reply: str) -> None:
        """Write a reply, at once or not at all."""
        path = self._path(question)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, [json.dumps({"reply": reply})])

    def _path(self, question: Any) -> Path:
        key = digest(self.asker, question)
        return cache_folder() / "replies" / key[:2] / f"{key}.json"
