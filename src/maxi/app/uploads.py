"""Uploads: the video that a browser sent last."""

from __future__ import annotations

import secrets
from pathlib import Path

from maxi.errors import MaxiError
from maxi.run import Run

LARGEST = 2**30  # bytes of an uploaded video


class UnknownError(MaxiError):
    """A request asks for what is not there."""


class Uploads:
    """The video that was uploaded last, as one file in the run's folder; its name is not taken from the browser."""

    def __init__(self, run: Run) -> None:
        self._path = run.previews / "upload"
        self._last = ""
        self.close()  # what a killed server left

    def new(self) -> tuple[str, Path]:
        """Return the number and the path of a video that is to be written; the one before it is removed."""
        self.close()
        self._path.parent.mkdir(exist_ok=True)
        self._last = secrets.token_hex(8)
        return self._last, self._path

    def path(self, number: str) -> Path:
        """Return the path of an uploaded video. Raises UnknownError when it is not the last one."""
        if number != self._last:
            raise UnknownError("this video was uploaded before another one; upload it again")
        return self._path

    def close(self) -> None:
        """Remove what was uploaded."""
        self._path.unlink(missing_ok=True)
