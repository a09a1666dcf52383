"""Expand: describe each action name by phrases, once per name (section 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from maxi.config import ChatConfig
from maxi.errors import MaxiError, choose
from maxi.files import given_path
from maxi.progress import Progress, silent
from maxi.records import Phrases
from maxi.text import reply_parser as replies
from maxi.text.chat import Chat, Cost
from maxi.text.chat_server import Question
from maxi.text.clean import clean
from maxi.text.phrase_rule import describe
from maxi.text.phrasebook import Phrasebook, read_book, shipped_book, split_words

logger = logging.getLogger(__name__)

MAX_WORDS = 20  # a longer text is a paragraph, not a phrase


@dataclass(frozen=True, slots=True)
class ExpandContext:
    """What an expander may need beyond the names; in `unanswered` it notes the names of which a server said nothing."""

    n_phrases: int = 5
    chat: ChatConfig = field(default_factory=ChatConfig)
    device: str = "cpu"
    progress: Progress = silent
    unanswered: list[str] = field(default_factory=list)


Expander = Callable[[Sequence[str], ExpandContext], list[Phrases]]


def expand(
    names: Sequence[str],
    expander: str = "shipped+wordnet",
    n_phrases: int = 5,
    *,
    context: ExpandContext | None = None,
) -> list[Phrases]:
    """Describe each name by up to `n_phrases` phrases (section 3.2); each source is asked for what is still missing.

    Returns one row per (name, source), in the order of `names`. A name that no source knows has one row without
    texts, whose source is `none`. Raises MaxiError for an unknown source and for a file that cannot be read.
    """
    context = replace(context or ExpandContext(), n_phrases=n_phrases)
    names = list(dict.fromkeys(names))
    taken: dict[str, list[str]] = {name: [] for name in names}
    rows: dict[str, list[Phrases]] = {name: [] for name in names}
    for source, describe_names in parse(expander):
        incomplete = [name for name in names if len(taken[name]) < n_phrases]
        for row in describe_names(incomplete, context):
            if row.name not in taken:
                continue
            texts = usable(row.name, row.texts, taken[row.name], n_phrases)
            if texts:
                taken[row.name] += texts
                rows[row.name].append(Phrases(row.name, tuple(texts), source))
    unknown = [name for name in names if not rows[name]]
    if unknown and n_phrases:
        examples = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        logger.warning(
            "%d of %d names have no phrases: their bags hold the name alone (%s)",
            len(unknown),
            len(names),
            examples,
        )
    return [row for name in names for row in rows[name] or [Phrases(name, (), "none")]]


def usable(name: str, texts: Iterable[str], taken: Sequence[str], n_phrases: int) -> list[str]:
    """Clean the texts, and return those that are new, short and not the name itself, up to `n_phrases` with `taken`."""
    name_forms = {clean(name), " ".join(split_words(name))}
    new: list[str] = []
    for text in map(clean, texts):
        if not text or len(text.split()) > MAX_WORDS or text in name_forms:
            continue
        if text not in taken and text not in new:
            new.append(text)
    return new[: n_phrases - len(taken)]


def split_sources(expander: str) -> list[str]:
    """Split `NAME[:ARG]+...` into its sources, in order."""
    sources: list[str] = []
    for part in expander.split("+"):
        # A `+` inside a path is not a separator.
        name = part.strip().partition(":")[0]
        if sources and sources[-1].lstrip().startswith("file:") and name not in EXPANDERS:
            sources[-1] += "+" + part
        else:
            sources.append(part)
    return [source.strip() for source in sources]


def source_files(expander: str) -> list[Path]:
    """Return the files that decide what an expander says: those of phrases, and the weights of local models."""
    files: list[Path] = []
    for source in split_sources(expander):
        name, _, argument = source.partition(":")
        if name == "file":
            files.append(given_path(argument))
        elif name == "hf":
            from maxi.models.causal_lm import find_language
            from maxi.models.hugging_face import files_of

            files += files_of(find_language(argument))
    return files


def parse(expander: str) -> list[tuple[str, Expander]]:
    """Return the expander of each source in `NAME[:ARG]+...`, with the source's name that its rows carry.

    A known name is preferred to a module of that name. Raises MaxiError for an unknown source.
    """
    expanders: list[tuple[str, Expander]] = []
    for source in split_sources(expander):
        name, _, argument = source.partition(":")
        if name in EXPANDERS:
            row_source = f"{name}:{Path(argument).name}" if argument else name
            expanders.append((row_source, EXPANDERS[name](argument)))
        else:
            outside: Any = choose(EXPANDERS, source, "expander")
            expanders.append((source, outside))
    return expanders


def _each_name(find: Callable[[str], Sequence[str]], source: str) -> Expander:
    """Return an expander that asks for the texts of one name at a time."""

    def describe_names(names: Sequence[str], context: ExpandContext) -> list[Phrases]:
        return [Phrases(name, tuple(find(name)), source) for name in names]

    return describe_names


def _refuse_argument(name: str, argument: str) -> None:
    if argument:
        raise MaxiError(f"expander '{name}:{argument}': {name!r} takes no argument; write {name!r}")


def _shipped(argument: str) -> Expander:
    _refuse_argument("shipped", argument)
    return _each_name(lambda name: shipped_book().find(name), "shipped")


def _wordnet(argument: str) -> Expander:
    _refuse_argument("wordnet", argument)
    return _each_name(describe, "wordnet")


def _file(argument: str) -> Expander:
    if not argument:
        raise MaxiError("expander 'file' needs a path; write file:PATH")

    def describe_names(names: Sequence[str], context: ExpandContext) -> list[Phrases]:
        book: Phrasebook = read_book(given_path(argument))
        return _each_name(book.find, "file")(names, context)

    return describe_names


def _miniature(argument: str) -> Expander:
    _refuse_argument("miniature", argument)
    return _file(str(resources.files("maxi") / "miniature" / "phrases.jsonl"))


def _openai(argument: str) -> Expander:
    if not argument:
        raise MaxiError("expander 'openai' needs a model; write openai:MODEL")

    def describe_names(names: Sequence[str], context: ExpandContext) -> list[Phrases]:
        chat = Chat(argument, context.chat)
        questions = [question(name, context.n_phrases) for name in names]
        answers = list(context.progress(chat.ask_all(questions), len(questions), "expand"))
        if answers and not any(answers):
            raise MaxiError(
                f"openai:{argument}: all replies ({len(answers)}) were empty; check the model's name and the log of "
                "the server, or name another expander"
            )
        context.unanswered.extend(
            name for name, answer in zip(names, answers, strict=True) if not answer
        )
        return _parsed(names, answers, context, "openai")

    return describe_names


def question(name: str, n_phrases: int) -> Question:
    """Return the question that a server's language model is asked about one name (section 3.2)."""
    text = replies.INSTRUCTION.format(n=n_phrases, name=name)
    text += ' Reply with JSON alone: {"phrases": ["...", ...]}.'
    return Question([{"role": "user", "content": text}], replies.SCHEMA, 60 * n_phrases)


def expansion_costs(
    names: Sequence[str], expander: str, context: ExpandContext
) -> Iterator[tuple[str, Cost]]:
    """Yield each source `openai:MODEL` of an expander, and the cost of asking it about all names; nothing is asked."""
    for source in split_sources(expander):
        kind, _, model = source.partition(":")
        if kind == "openai":
            questions = [question(name, context.n_phrases) for name in dict.fromkeys(names)]
            yield source, Chat(model, context.chat).cost_of(questions)


def _hf(argument: str) -> Expander:
    def describe_names(names: Sequence[str], context: ExpandContext) -> list[Phrases]:
        from maxi.models.causal_lm import load_language

        language = load_language(argument, context.device)
        temperature, max_tokens = context.chat.temperature, 60 * context.n_phrases
        texts = [replies.INSTRUCTION.format(n=context.n_phrases, name=name) for name in names]
        answers = (
            language.ask(text, temperature=temperature, max_tokens=max_tokens) for text in texts
        )
        return _parsed(names, context.progress(answers, len(texts), "expand"), context, "hf")

    return describe_names


def _parsed(
    names: Sequence[str], answers: Iterable[str], context: ExpandContext, source: str
) -> list[Phrases]:
    """Return the phrases in the answer for each name, and warn of refusals and of answers without phrases."""
    named_replies = [
        (name, replies.parse(answer, context.n_phrases))
        for name, answer in zip(names, answers, strict=True)
    ]
    for kind, words in (("refusal", "refused"), ("nothing", "without usable phrases")):
        useless = [name for name, reply in named_replies if reply.kind == kind]
        if useless:
            logger.warning(
                "%d of %d replies %s (%s)", len(useless), len(names), words, ", ".join(useless[:5])
            )
    return [Phrases(name, reply.phrases, source) for name, reply in named_replies]


EXPANDERS: dict[str, Callable[[str], Expander]] = {
    "shipped": _shipped,
    "wordnet": _wordnet,
    "file": _file,
    "miniature": _miniature,
    "openai": _openai,
    "hf": _hf,
}
