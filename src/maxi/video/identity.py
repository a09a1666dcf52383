"""The id of a video, which its content alone decides."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from maxi.errors import MaxiError

BLOCK = 2**20  # bytes of a file that are read at once


def content_id(path: str | Path) -> str:
    """Return the id of a video: the first 16 hex digits of the sha256 of the whole file.

    The same content has the same id under any file name. Raises MaxiError with the plain reason when the file cannot be
    read.
    """
    content = hashlib.sha256()
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise MaxiError(
                "a folder of which nothing can be read; change its permissions or move it"
            )
        if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
            raise MaxiError("not a file")
        with open(path, "rb", buffering=0) as file:
            while block := file.read(BLOCK):
                content.update(block)
    except FileNotFoundError as error:
        raise MaxiError("does not exist") from error
    except OSError as error:
        raise MaxiError(f"cannot be read ({error.strerror})") from error
    return content.hexdigest()[:16]
