"""Expand: find phrases for every action name of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxi.files import digest
from maxi.method import expansion
from maxi.records import Phrases, read_jsonl
from maxi.run import contents, is_current, write_signed
from maxi.stages.job import Job, resolve_device
from maxi.text.chat import tell

logger = logging.getLogger(__name__)


def expand_run(job: Job) -> list[Phrases]:
    """Write `phrases.jsonl`, the phrases for every action name, and return its rows."""
    run, expand_config, names = job.run, job.config.expand, job.names()
    inputs = {
        "actions.txt": digest(names),
        "settings": with_files(expand_config.model_dump(), _phrase_files(expand_config.expander)),
        **asked_of_models(job, expand_config.expander),
    }
    if is_current(run.phrases, inputs):
        return read_jsonl(run.phrases, Phrases)
    rows = expansion.expand(
        names, expand_config.expander, expand_config.n_phrases, context=expansion_context(job)
    )
    write_signed(run.phrases, rows, inputs)
    return rows


def plan_expand(job: Job) -> list[str]:
    """Return what `expand` would ask of servers, one line for each source, without asking."""
    costs = expansion.expansion_costs(
        job.names(), job.config.expand.expander, expansion_context(job)
    )
    return [f"{source}: {tell(cost)}" for source, cost in costs]


def expansion_context(job: Job) -> expansion.ExpandContext:
    """Return what expanders need of a run: the number of phrases, the settings of `chat`, device and progress."""
    config = job.config
    return expansion.ExpandContext(
        config.expand.n_phrases, config.chat, resolve_device(config.device), job.progress
    )


def asked_of_models(job: Job, sources: str) -> dict[str, Any]:
    """Return the settings of `chat` that decide what language models reply; {} when no source is such a model."""
    if not any(part.startswith(("openai:", "hf:")) for part in sources.split("+")):
        return {}
    return {"chat": job.config.chat.model_dump(include={"base_url", "temperature"})}


def _phrase_files(expander: str) -> list[Path]:
    """Return the files that an expander reads phrases from."""
    sources = expansion.split_sources(expander)
    return [Path(s.partition(":")[2]) for s in sources if s.startswith("file:")]


def with_files(settings: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Return settings with the digests of the files that they name, so that an edit of a file is noticed."""
    return {**settings, "files": [contents(path) for path in files]}
