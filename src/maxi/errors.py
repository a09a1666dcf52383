"""The one exception that users see, and what its sentences are made of."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class MaxiError(Exception):
    """Something the user can act on: one sentence that says where, what, and what to do next."""


class UnfinishedError(MaxiError):
    """A file was not read for a reason that may pass, such as a busy machine: another try may succeed."""


MISTAKES = (TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError)
"""Exceptions that point to wrong code, not to a bad file: they are never reported as a fault of the user's input."""


def is_own_mistake(error: Exception) -> bool:
    """Return whether wrong code of this package raised the error.

    It is asked where code of other packages reads a user's files: what that code raises is the file's fault.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals.get("__name__", "")
    return isinstance(error, MISTAKES) and module.partition(".")[0] == "maxi"


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`, or import the object that `package.module:attribute` names.

    `kind` says in messages what is chosen. Raises MaxiError with the nearest known names when there is no such entry.
    """
    if name in table:
        return table[name]
    module, colon, attribute = name.partition(":")
    if colon and module.replace(".", "").replace("_", "").isalnum() and attribute.isidentifier():
        try:
            imported: T = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise MaxiError(f"{kind} {name!r} cannot be imported: {error}") from error
        return imported
    near = get_close_matches(name, table, n=3, cutoff=0.4) or sorted(table)
    raise MaxiError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its type when it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def some(names: Sequence[str], n: int = 4) -> str:
    """Return the first `n` names of a list, joined, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more
