"""Uploads: the video that a browser sent last."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

from maxi.errors import MaxiError

LARGEST = 2**30  # bytes of an uploaded video


class UnknownError(MaxiError):
    """A request asks for what is not there."""


class Uploads:
    """The video that was uploaded last, in a folder that is nobody else's; its name is not taken from the browser."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="maxi-upload-"))
        self._last = ""

    def new(self) -> tuple[str, Path]:
        """Return the number and the path of a video that is to be written; the one before it is removed."""
        self.path(self._last).unlink(missing_ok=True)
        self._last = secrets.token_hex(8)
        return self._last, self.path(self._last)

    def path(self, number: str) -> Path:
        """Return the path of an uploaded video. Raises UnknownError when it is not the last one."""
        if number != self._last:
            raise UnknownError("this video was uploaded before another one; upload it again")
        return self._folder / f"video-{number}"

    def close(self) -> None:
        """Remove what was uploaded."""
        shutil.rmtree(self._folder, ignore_errors=True)
