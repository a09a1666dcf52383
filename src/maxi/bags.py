"""Bags: match, phrases and captions of a video -> its noisy collection of texts (section 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from maxi.config import BagConfig
from maxi.randomness import generator
from maxi.records import Bag, BagText, Caption, Match, Phrases, bag_text
from maxi.text import clean

CHUNK = 1024  # videos whose captions are parsed together


class Parser(Protocol):
    """What bags need of a verb parser; see `maxi.verbs.VerbParser`."""

    def captions(self, texts: Sequence[str], parts: str) -> list[list[str]]: ...

    def phrases(self, texts: Sequence[str]) -> list[list[str]]: ...


def build_bags(
    matches: Iterable[Match],
    phrases: Sequence[Phrases],
    captions: Mapping[str, Caption],
    parser: Parser,
    config: BagConfig | None = None,
) -> Iterator[Bag]:
    """Yield a bag for each kept match, in the order of the matches.

    A bag holds the phrases of the matched name with their verbs, the verbs of the name, then what the captions say;
    verbs as lemma and gerund, first source named, no text twice, and never the name itself: it is in every training
    prompt already ("To avoid duplication, we do not use t_i as text2", appendix B).
    """
    config = config or BagConfig()
    by_label = _texts_of_labels(phrases, parser) if config.phrases else {}
    kept = (m for m in matches if m.kept)
    while chunk := list(islice(kept, CHUNK)):
        said = _texts_of_captions(chunk, captions, parser, config) if config.captions else {}
        for match in chunk:
            if config.phrases and match.label not in by_label:
                by_label[match.label] = _verbs_of_name(match.label, parser)
            texts = [*by_label.get(match.label, ()), *said.get(match.video, ())]
            yield Bag(match.video, match.label, _distinct(texts, match.label))


def _texts_of_labels(phrases: Sequence[Phrases], parser: Parser) -> dict[str, list[BagText]]:
    table: dict[str, list[BagText]] = {}
    for row in phrases:
        texts = table.setdefault(row.label, [])
        for parsed in parser.phrases(row.texts):
            texts += [bag_text(text, f"phrase:{row.source}") for text in parsed]
    return {label: texts + _verbs_of_name(label, parser) for label, texts in table.items()}


def _texts_of_captions(
    matches: Sequence[Match], captions: Mapping[str, Caption], parser: Parser, config: BagConfig
) -> dict[str, list[BagText]]:
    rows = [captions[m.video] for m in matches if m.video in captions]
    distinct = list(dict.fromkeys(text for row in rows for text in row.captions))
    parsed = dict(zip(distinct, parser.captions(distinct, config.caption_parts), strict=True))
    return {
        row.video: [bag_text(t, f"caption:{row.source}") for c in row.captions for t in parsed[c]]
        for row in rows
    }


def _verbs_of_name(label: str, parser: Parser) -> list[BagText]:
    return [bag_text(text, "name") for text in parser.phrases([label])[0]]


def _distinct(texts: Sequence[BagText], label: str) -> tuple[BagText, ...]:
    first: dict[str, BagText] = {}
    for text in texts:
        first.setdefault(text.text, text)
    first.pop(label, None)
    first.pop(clean(label), None)
    return tuple(first.values())


def sample_bag(bag: Bag, n_bag: int, *, seed: int, epoch: int) -> tuple[str, ...]:
    """At most `n_bag` distinct texts, drawn without replacement: a function of (seed, epoch, video id) alone.

    A bag that is no larger comes whole, in its order; the rest of the N_bag places is masked by the loader.
    """
    texts = [t.text for t in bag.texts if t.text != bag.label]
    if len(texts) <= n_bag:
        return tuple(texts)
    chosen = generator("bag", seed, epoch, bag.video).choice(len(texts), n_bag, replace=False)
    return tuple(texts[i] for i in sorted(chosen))


def shuffle_bags(bags: Sequence[Bag], seed: int) -> list[Bag]:
    """The control: the same bags, label and all, dealt out to the same videos at random."""
    order = generator("control", seed).permutation(len(bags))
    return [
        Bag(bag.video, bags[i].label, bags[i].texts) for bag, i in zip(bags, order, strict=True)
    ]


def bag_statistics(bags: Sequence[Bag]) -> dict[str, object]:
    """Sizes, sources and the commonest texts of bags, for the report."""
    sizes = sorted(len(bag.texts) for bag in bags)
    sources = Counter(t.source for bag in bags for t in bag.texts)
    texts = Counter(t.text for bag in bags for t in bag.texts)
    return {
        "n": len(sizes),
        "empty": sum(size == 0 for size in sizes),
        "median_size": sizes[len(sizes) // 2] if sizes else 0,
        "largest": sizes[-1] if sizes else 0,
        "sources": dict(sources.most_common()),
        "commonest": texts.most_common(20),
    }
