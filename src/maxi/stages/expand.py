"""Expand: find phrases for every action name of a run."""

from __future__ import annotations

import logging

from maxi.method import expansion
from maxi.records import Phrases, read_jsonl
from maxi.run import write_signed
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job, resolve_device
from maxi.text.chat import tell

logger = logging.getLogger(__name__)


def expand_run(job: Job) -> list[Phrases]:
    """Write `phrases.jsonl`, the phrases for every action name, and return its rows."""
    run, inputs = job.run, expand_inputs(job)
    names, config = inputs.names(), inputs.settings("expand")
    inputs.files(*expansion.source_files(config.expander))
    if inputs.made(run.phrases):
        return read_jsonl(run.phrases, Phrases)
    context = expansion_context(job)
    rows = expansion.expand(names, config.expander, config.n_phrases, context=context)
    # What a server did not answer is asked again by the next run.
    write_signed(run.phrases, rows, inputs.used(whole=not context.unanswered))
    return rows


def expand_inputs(job: Job) -> Inputs:
    """Return what `expand` reads, except the files of its sources."""
    inputs = Inputs(job)
    inputs.names()
    if asks_models(inputs.settings("expand").expander):
        inputs.settings("chat")
    return inputs


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


def asks_models(sources: str) -> bool:
    """Return whether one of the sources is a language model, whose replies depend on the settings of `chat`."""
    return any(s.startswith(("openai:", "hf:")) for s in expansion.split_sources(sources))
