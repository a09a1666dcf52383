"""Names of actions to phrases that describe them, once per dictionary entry."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from maxi.config import ChatConfig
from maxi.errors import MaxiError, choose
from maxi.progress import Progress, silent
from maxi.records import Phrases
from maxi.text import reply_parser as replies
from maxi.text.chat import Chat, Plan, Question
from maxi.text.clean import clean
from maxi.text.phrase_rule import describe
from maxi.text.phrasebook import Phrasebook, read_book, shipped_book, split_words

log = logging.getLogger(__name__)

MAX_WORDS = 20  # a longer text is a paragraph, not a phrase


@dataclass(frozen=True, slots=True)
class Context:
    """What an expander may need beyond the names."""

    n_phrases: int = 5
    chat: ChatConfig = field(default_factory=ChatConfig)
    device: str = "cpu"
    progress: Progress = silent


Expander = Callable[[Sequence[str], Context], list[Phrases]]


def expand(
    labels: Sequence[str],
    expander: str = "shipped+wordnet",
    n_phrases: int = 5,
    *,
    context: Context | None = None,
) -> list[Phrases]:
    """Describe each name by up to `n_phrases` phrases (section 3.2); sources in turn fill gaps.

    One row per (name, source), in the order of `labels`; a name that no source knows has one row
    without texts, of source `none`. Raises MaxiError for an unknown source and an unreadable file.
    """
    context = replace(context or Context(), n_phrases=n_phrases)
    labels = list(dict.fromkeys(labels))
    taken: dict[str, list[str]] = {label: [] for label in labels}
    rows: dict[str, list[Phrases]] = {label: [] for label in labels}
    for source, ask in parse(expander):
        missing = [label for label in labels if len(taken[label]) < n_phrases]
        for row in ask(missing, context):
            if row.label not in taken:
                continue
            texts = usable(row.label, row.texts, taken[row.label], n_phrases)
            if texts:
                taken[row.label] += texts
                rows[row.label].append(Phrases(row.label, tuple(texts), source))
    unknown = [label for label in labels if not rows[label]]
    if unknown and n_phrases:
        log.warning(
            "%d of %d names have no phrases: their bags hold the name alone (%s)",
            len(unknown),
            len(labels),
            ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else ""),
        )
    return [row for label in labels for row in rows[label] or [Phrases(label, (), "none")]]


def usable(label: str, texts: Iterable[str], taken: Sequence[str], n_phrases: int) -> list[str]:
    """Cleaned texts that are new, short and not the name itself; at most what is missing."""
    names = {clean(label), " ".join(split_words(label))}
    found: list[str] = []
    for text in map(clean, texts):
        if not text or len(text.split()) > MAX_WORDS or text in names:
            continue
        if text not in taken and text not in found:
            found.append(text)
    return found[: n_phrases - len(taken)]


def split_sources(expander: str) -> list[str]:
    """The sources of `NAME[:ARG]+...`, in order."""
    parts: list[str] = []
    for part in expander.split("+"):
        # A `+` inside a path is not a separator.
        if parts and parts[-1].startswith("file:") and part.partition(":")[0] not in EXPANDERS:
            parts[-1] += "+" + part
        else:
            parts.append(part)
    return parts


def parse(expander: str) -> list[tuple[str, Expander]]:
    """Sources of `NAME[:ARG]+...` and the marks of their rows; known names win over modules."""
    sources: list[tuple[str, Expander]] = []
    for part in split_sources(expander):
        name, _, argument = part.strip().partition(":")
        if name in EXPANDERS:
            source = f"{name}:{Path(argument).name}" if argument else name
            sources.append((source, EXPANDERS[name](argument)))
        else:
            outside: Any = choose(EXPANDERS, part.strip(), "expander")
            sources.append((part.strip(), outside))
    return sources


def _each_name(find: Callable[[str], Sequence[str]], source: str) -> Expander:
    """An expander that asks for the texts of one name at a time."""

    def ask(labels: Sequence[str], context: Context) -> list[Phrases]:
        return [Phrases(label, tuple(find(label)), source) for label in labels]

    return ask


def _refuse_argument(name: str, argument: str) -> None:
    if argument:
        raise MaxiError(f"expander '{name}:{argument}': {name!r} takes no argument; write {name!r}")


def _shipped(argument: str) -> Expander:
    _refuse_argument("shipped", argument)
    return _each_name(lambda label: shipped_book().find(label), "shipped")


def _wordnet(argument: str) -> Expander:
    _refuse_argument("wordnet", argument)
    return _each_name(describe, "wordnet")


def _file(argument: str) -> Expander:
    if not argument:
        raise MaxiError("expander 'file' needs a path; write file:PATH")

    def ask(labels: Sequence[str], context: Context) -> list[Phrases]:
        book: Phrasebook = read_book(Path(argument))
        return _each_name(book.find, "file")(labels, context)

    return ask


def _miniature(argument: str) -> Expander:
    _refuse_argument("miniature", argument)
    return _file(str(resources.files("maxi") / "miniature" / "phrases.jsonl"))


def _openai(argument: str) -> Expander:
    if not argument:
        raise MaxiError("expander 'openai' needs a model; write openai:MODEL")

    def ask(labels: Sequence[str], context: Context) -> list[Phrases]:
        chat = Chat(argument, context.chat)
        questions = [question(label, context.n_phrases) for label in labels]
        answers = context.progress(chat.ask_all(questions), len(questions), "expand")
        return _told(labels, answers, context, "openai")

    return ask


def question(label: str, n_phrases: int) -> Question:
    """What a server's language model is asked for one name (section 3.2), with the form of the reply."""
    text = replies.INSTRUCTION.format(n=n_phrases, label=label)
    text += ' Reply with JSON alone: {"phrases": ["...", ...]}.'
    return Question([{"role": "user", "content": text}], replies.SCHEMA, 60 * n_phrases)


def plan(labels: Sequence[str], expander: str, context: Context) -> Iterator[tuple[str, Plan]]:
    """Sources of `openai:MODEL` in an expander and what asking each for all of `labels` would cost, without asking."""
    for part in split_sources(expander):
        name, _, model = part.strip().partition(":")
        if name == "openai":
            asked = [question(label, context.n_phrases) for label in dict.fromkeys(labels)]
            yield part, Chat(model, context.chat).plan(asked)


def _hf(argument: str) -> Expander:
    def ask(labels: Sequence[str], context: Context) -> list[Phrases]:
        from maxi.models.causal_lm import load_language

        language = load_language(argument, context.device)
        texts = [replies.INSTRUCTION.format(n=context.n_phrases, label=label) for label in labels]
        answers = (
            language.ask(
                text,
                temperature=context.chat.temperature,
                max_tokens=60 * context.n_phrases,
            )
            for text in texts
        )
        return _told(labels, context.progress(answers, len(texts), "expand"), context, "hf")

    return ask


def _told(
    labels: Sequence[str], answers: Iterable[str], context: Context, source: str
) -> list[Phrases]:
    """Rows of what was replied for each label; refusals and replies without phrases are counted aloud."""
    found = [replies.parse(answer, context.n_phrases) for answer in answers]
    kinds = Counter(reply.kind for reply in found)
    for kind, words in (("refusal", "refused"), ("nothing", "without usable phrases")):
        if kinds[kind]:  # type: ignore[index]
            names = [label for label, r in zip(labels, found, strict=True) if r.kind == kind]
            log.warning(
                "%d of %d replies %s (%s)", len(names), len(labels), words, ", ".join(names[:5])
            )
    return [
        Phrases(label, reply.phrases, source) for label, reply in zip(labels, found, strict=True)
    ]


EXPANDERS: dict[str, Callable[[str], Expander]] = {
    "shipped": _shipped,
    "wordnet": _wordnet,
    "file": _file,
    "miniature": _miniature,
    "openai": _openai,
    "hf": _hf,
}
