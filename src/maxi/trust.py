"""What a run's folder names. It may come from others, so no code of it is run and no server of it is asked unseen.

A run's settings may name functions to import (`package.module:function`) and the server that is asked. What the user
names on the command line, or in settings of their own, is written down in the user's cache folder. What is not there,
`require` refuses, so that neither foreign code is run nor a key sent to a stranger.
"""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from maxi.config import without_secrets
from maxi.errors import MaxiError
from maxi.files import cache_folder, parse_json, write_text

KINDS = frozenset(
    [
        *("clip", "siglip", "objects", "miniature"),
        *("shipped", "wordnet", "file", "hf", "openai"),
        *("retrieval", "blip", "none"),
    ]
)
"""What stands before the colon of a backbone, expander or captioner of `maxi` itself."""

SPECS = ("backbone", "expand.expander", "caption.captioner", "bag.agree", "train.objective")
_CODE = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*(?::.*)?")


def named(settings: dict[str, Any]) -> dict[str, str]:
    """Return those settings, by their full names, that name code or a server. `settings` are those of each stage."""
    found = {}
    for key in (*SPECS, "chat.base_url"):
        stage, _, name = key.rpartition(".")
        value = (settings.get(stage) or {} if stage else settings).get(name)
        if key == "chat.base_url" and value:
            found[key] = without_secrets(str(value))
        elif value and _names_code(str(value)):
            found[key] = str(value)
    return found


def _names_code(spec: str) -> bool:
    parts = (_CODE.fullmatch(part.strip()) for part in spec.split("+"))
    return any(part is not None and part[1] not in KINDS for part in parts)


def remember(values: dict[str, str]) -> None:
    """Write down that the user has named these, as `named` returns them."""
    if new := [entry for entry in _entries(values) if entry not in _known()]:
        with suppress(OSError):  # the user is asked again then
            write_text(_file(), [json.dumps([*_known(), *new], indent=1), "\n"])


def require(values: dict[str, str], where: Path) -> None:
    """Raise MaxiError when `where`, a run's settings, names what the user has never named on this machine."""
    known = _known()
    for (key, value), entry in zip(values.items(), _entries(values), strict=True):
        if entry not in known:
            what = "asks the server" if key == "chat.base_url" else "runs the code"
            raise MaxiError(
                f"{where} {what} {value}, which you have not named on this machine yet; if you trust it, name it once: "
                f"maxi report {shlex.quote(str(where.parent))} -s {shlex.quote(f'{key}={value}')}"
            )


def _entries(values: dict[str, str]) -> list[str]:
    """Return what is written down: a server whatever is asked of it, code whatever it is used for."""
    return ["server " * (key == "chat.base_url") + value for key, value in values.items()]


def _known() -> list[str]:
    with suppress(OSError, ValueError):
        entries = parse_json(_file().read_text(encoding="utf-8"))
        if isinstance(entries, list):
            return [str(entry) for entry in entries]
    return []


def _file() -> Path:
    return cache_folder() / "trusted.json"
