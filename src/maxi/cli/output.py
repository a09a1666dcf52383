"""What is written to the terminal: one door for all of it, which shows what would command the terminal as letters."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from contextlib import suppress

import click

# Control characters, and those that turn the direction of writing or break a line.
_COMMANDS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(line: str) -> str:
    r"""Return a line in which characters that would command the terminal are written as in JSON, such as `\u001b`.

    Names of files and texts of servers come from outside. Escape sequences in them could clear the screen, hide what
    was said, or worse.
    """
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def say(line: str, *, err: bool = False, data: bool = False) -> None:
    """Write a line to stdout, or with `err` to stderr; `data` is left as it is where stdout is not a terminal."""
    raw = data and not sys.stdout.isatty()
    # Where stdout is no terminal, click takes escape sequences out of a line, unless it is told to keep colours.
    click.echo(line if raw else visible(line), err=err, color=raw or None)


class Formatter(logging.Formatter):
    """Format log messages so that nothing in them commands the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(visible, super().format(record).split("\n")))


def is_of_output(error: BaseException | None) -> bool:
    """Return whether stdout or stderr takes nothing, as on a full disk or where the reader is gone."""
    if not isinstance(error, OSError):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__") == click.utils.__name__


def drop_output() -> None:
    """Lead stdout nowhere: else the interpreter writes out the rest once more at its end, and complains."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
