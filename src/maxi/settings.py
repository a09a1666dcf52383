"""The settings of a run, read from files and options, and written.

A run's settings are the defaults of `config`, then the differences that the backbone's recipe states, then a YAML
file, then `-s key=value`. A key that only one stage has needs no prefix (`-s lr=1e-5`); others do
(`-s train.n_frames=8`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from maxi import trust
from maxi.config import Config, Stage
from maxi.errors import MaxiError
from maxi.files import read_json

MAX_BYTES = 1 << 18  # of a file of settings
RECIPES = {"miniature": "demo"}
"""Kinds of backbones whose recipe has another name than the kind."""


def _keys() -> dict[str, list[str]]:
    """Return the full dotted names of every setting, by the last part of the name."""
    table: dict[str, list[str]] = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Stage):
            for inner in field.annotation.model_fields:
                table.setdefault(inner, []).append(f"{name}.{inner}")
        else:
            table.setdefault(name, []).append(name)
    return table


def full_key(key: str) -> str:
    """Return the full dotted name of a key. Raises MaxiError when it is unknown or belongs to several stages."""
    table = _keys()
    full_names = [name for names in table.values() for name in names]
    if key in full_names:
        return key
    fitting = table.get(key, [])
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise MaxiError(f"setting {key!r} belongs to several stages; write {' or '.join(fitting)}")
    near = get_close_matches(key, [*table, *full_names], n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise MaxiError(f"unknown setting {key!r}{hint}")


def _merge(into: dict[str, Any], settings: dict[str, Any], where: str) -> None:
    """Put settings, by stage, into a dictionary; `where` says in messages what they come from."""
    for key, value in ((str(key), value) for key, value in settings.items()):
        if isinstance(value, dict):
            if key not in Config.model_fields:
                raise MaxiError(f"{where}: unknown stage {key!r}")
            _merge(into, {f"{key}.{k}": v for k, v in value.items()}, where)
            continue
        stage, _, name = full_key(key).rpartition(".")
        (into.setdefault(stage, {}) if stage else into)[name] = value


class _Loader(yaml.SafeLoader):
    """YAML without references to other parts of the file: a few hundred bytes of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("settings refer to no others: `*` and `<<` are not read")
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    """Return the value of a YAML text. Raises ValueError with the reason when it has none."""
    try:
        return yaml.load(text, _Loader)
    # Among the others are numbers and dates that cannot be, such as 2024-13-45.
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_settings(path: Path, where: str = "") -> dict[str, Any]:
    """Return what a YAML file states; `where` names it in messages. Raises MaxiError when it is no mapping."""
    where = where or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        data = _parse_yaml(content.decode("utf-8-sig"))
    except OSError as error:
        raise MaxiError(
            f"{where}: cannot be read ({error.strerror}); give a YAML file or a recipe's name"
        ) from error
    except ValueError as error:
        raise MaxiError(f"{where}: not valid YAML ({error}); mend the file") from error
    if not isinstance(data or {}, dict):
        raise MaxiError(f"{where}: must be a mapping of settings, such as `lr: 1e-5`")
    return data or {}


def recipe(name: str) -> Path | None:
    """Return the path of the packaged recipe of that name, such as `k400_vitb16`; None when there is none."""
    file = resources.files("maxi") / "recipes" / f"{name}.yaml"
    return Path(str(file)) if name.isidentifier() and file.is_file() else None


def load_config(path: Path | None = None, overrides: Sequence[str] = (), **options: Any) -> Config:
    """Return the settings of a run; `path` is a YAML file or the name of a packaged recipe.

    `overrides` are texts `key=value`, `options` are settings by name, of which None is left out. A later one of these
    three wins. Raises MaxiError for an unknown key (with the nearest known one), a wrong value or two settings that
    contradict each other.
    """
    chosen: dict[str, Any] = {}
    if path is not None:
        file = path if path.exists() else recipe(str(path)) or path
        _merge(chosen, read_settings(file, str(path)), str(path))
    _merge_given(chosen, overrides, options)
    merged: dict[str, Any] = {}
    family = _family(str(chosen.get("backbone", "")))
    name = RECIPES.get(family, family)
    if file_of_family := recipe(name):
        _merge(merged, read_settings(file_of_family, f"recipe {name}"), f"recipe {name}")
    for key, value in chosen.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_config(merged)


def _merge_given(into: dict[str, Any], overrides: Sequence[str], options: dict[str, Any]) -> None:
    """Put what the command line states into settings by stage."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise MaxiError(f"-s {override}: write it as key=value")
        _merge(into, {key.strip(): _parse(key.strip(), value)}, "-s")
    _merge(into, {k: v for k, v in options.items() if v is not None}, "options")


def load_run(path: Path, overrides: Sequence[str] = (), **options: Any) -> Config:
    """Return the settings of a run's folder, with the changes that the user asks for; see `load_config`.

    Raises MaxiError when the folder names code or a server that the user has never named (`trust`).
    """
    config = load_config(path, overrides, **options)
    given: dict[str, Any] = {}
    _merge_given(given, overrides, options)
    trust.remember(trust.named(given))
    trust.require(trust.named(config.model_dump(mode="json")), path)
    return config


def _family(backbone: str) -> str:
    """Return the kind of a backbone, such as `objects`; for a saved model or run, the kind that it states."""
    stated: Any = {"backbone": backbone.partition(":")[0]}
    root = Path(os.path.expanduser(backbone))
    for file in (root / "maxi.json", root / "model" / "maxi.json"):
        if file.is_file():
            stated = read_json(file)
            break
    family = str(stated.get("backbone")) if isinstance(stated, dict) else ""
    return family if family.isidentifier() else ""  # checked, since it becomes a part of a path


def _parse(key: str, text: str) -> Any:
    """Return the value of a setting as YAML reads it; a setting that is text stays as it was typed."""
    try:
        value = _parse_yaml(text)
    except ValueError:
        return text
    default: Any = Config()
    if isinstance(value, str) or isinstance(getattr(default, key, None), Stage):
        return value
    for part in full_key(key).split("."):
        default = getattr(default, part)
    return text if isinstance(default, str) else value


def parse_config(data: Any, where: str = "") -> Config:
    """Check settings against the fields of `Config`. Raises MaxiError that names the first wrong field."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        message = first["msg"].removeprefix("Value error, ")
        raise MaxiError(f"{where}{': ' if where else ''}setting {name}: {message}") from error


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return settings with some changed, by their names. Raises MaxiError as `load_config` does."""
    data = config.model_dump()
    _merge(data, dict(settings), "settings")
    return parse_config(data)


def dump_config(config: Config) -> str:
    """Return all settings as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
