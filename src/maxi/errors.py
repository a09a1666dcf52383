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


MISTAKES = (
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    AssertionError,
    NotImplementedError,
)
"""What wrong code raises and a bad file does not: never told as a fault of what the user gave."""


def is_own_mistake(error: Exception) -> bool:
    """Whether wrong code of this package raised an error, where other people's code runs on a user's files as well."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals.get("__name__", "")
    return isinstance(error, MISTAKES) and module.partition(".")[0] == "maxi"


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`, or the object that `package.module:attribute` names.

    Raises MaxiError that lists the nearest known names when there is no such entry.
    """
    if name in table:
        return table[name]
    module, colon, attribute = name.partition(":")
    if colon and module.replace(".", "").replace("_", "").isalnum() and attribute.isidentifier():
        try:
            found: T = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise MaxiError(f"{kind} {name!r} cannot be imported: {error}") from error
        return found
    near = get_close_matches(name, table, n=3, cutoff=0.4) or sorted(table)
    raise MaxiError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type when it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def some(names: Sequence[str], n: int = 4) -> str:
    """The first few names of a list, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more
