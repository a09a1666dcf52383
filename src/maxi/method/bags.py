"""Bags: match, phrases and captions of a video -> its noisy collection of texts (section 3.2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from maxi.config import BagConfig
from maxi.errors import MaxiError
from maxi.randomness import generator
from maxi.records import Bag, BagText, Caption, Match, Other, Phrases, bag_text
from maxi.text.clean import clean
from maxi.text.verbs import VerbParser

CHUNK = 1024  # videos whose captions are parsed together


class Parser(Protocol):
    """What bags need of a verb parser; see `maxi.text.verbs.VerbParser`."""

    def captions(self, texts: Sequence[str], parts: str) -> list[list[str]]: ...

    def phrases(self, texts: Sequence[str]) -> list[list[str]]: ...


def build_bags(
    matches: Iterable[Match],
    phrases: Sequence[Phrases],
    captions: Iterable[Caption],
    parser: Parser | None = None,
    config: BagConfig | None = None,
) -> Iterator[Bag]:
    """Yield a bag for each kept match, in the order of the matches; `parser` is by default a `VerbParser`.

    A bag holds the phrases of the matched name with their verbs, the verbs of the name, then what the captions say;
    verbs as lemma and gerund, no text twice but all its sources named, and never the name itself: it is in every
    training prompt already ("To avoid duplication, we do not use t_i as text2", appendix B).
    """
    config, parser = config or BagConfig(), parser or VerbParser()
    by_video = {row.video: row for row in captions}
    weights = read_weights(Path(config.weights)) if config.weights else {}
    by_name = _texts_of_names(phrases, parser) if config.phrases else {}
    kept = (m for m in matches if m.kept)
    while chunk := list(islice(kept, CHUNK)):
        said = _texts_of_captions(chunk, by_video, parser, config) if config.captions else {}
        for match in chunk:
            if config.phrases and match.name not in by_name:
                by_name[match.name] = _verbs_of_name(match.name, parser)
            texts = [*by_name.get(match.name, ()), *said.get(match.video, ())]
            own = _distinct(texts, match.name)
            known = {match.name, *(t.text for t in own)}
            softer = _texts_of_others(match.others, by_name, known)
            yield Bag(match.video, match.name, _weighted([*own, *softer], weights))


def _texts_of_names(phrases: Sequence[Phrases], parser: Parser) -> dict[str, list[BagText]]:
    table: dict[str, list[BagText]] = {}
    for row in phrases:
        texts = table.setdefault(row.name, [])
        for parsed in parser.phrases(row.texts):
            texts += [bag_text(text, f"phrase:{row.source}") for text in parsed]
    return {name: texts + _verbs_of_name(name, parser) for name, texts in table.items()}


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


def _verbs_of_name(name: str, parser: Parser) -> list[BagText]:
    return [bag_text(text, "name") for text in parser.phrases([name])[0]]


def _texts_of_others(
    others: Sequence[Other], by_name: Mapping[str, Sequence[BagText]], known: set[str]
) -> Iterator[BagText]:
    """Soft matching: what the next nearest names bring, with their weight and under their own name."""
    for other in others:
        for text in by_name.get(other.name, ()):
            if text.text not in known and text.text != other.name:
                known.add(text.text)
                yield bag_text(text.text, text.source, other.weight, other.name)


def _distinct(texts: Sequence[BagText], name: str) -> tuple[BagText, ...]:
    sources: dict[str, dict[str, None]] = {}
    for text in texts:
        sources.setdefault(text.text, {})[text.source] = None
    sources.pop(name, None)
    sources.pop(clean(name), None)
    return tuple(bag_text(text, "+".join(its_sources)) for text, its_sources in sources.items())


def read_weights(path: Path) -> dict[str, float]:
    """Texts and their weights out of a file: one text a line, then a tab and a number; without one the text is dropped.

    Raises MaxiError when the file cannot be read or a weight is no number from 0 on.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise MaxiError(
            f"{path}: weights of texts cannot be read ({reason}); check bag.weights"
        ) from error
    weights = {}
    for number, line in enumerate(lines, 1):
        text, _, value = line.partition("\t")
        try:
            weight = float(value or 0)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < math.inf:
            raise MaxiError(
                f"{path}:{number}: {value!r} is no weight; write a number from 0 on behind the tab, "
                "or nothing to drop the text"
            )
        weights[clean(text)] = weight
    return weights


def _weighted(texts: Sequence[BagText], weights: Mapping[str, float]) -> tuple[BagText, ...]:
    if not weights:
        return tuple(texts)
    known = [(t, t.weight * weights.get(t.text, 1.0)) for t in texts]
    return tuple(bag_text(t.text, t.source, weight, t.name) for t, weight in known if weight)


def sample_bag(bag: Bag, n_bag: int, *, seed: int, epoch: int) -> tuple[BagText, ...]:
    """At most `n_bag` distinct texts, drawn without replacement: a function of (seed, epoch, video id) alone.

    A bag that is no larger comes whole, in its order; the rest of the N_bag places is masked by the loader.
    """
    texts = [t for t in bag.texts if t.text != bag.name]
    if len(texts) <= n_bag:
        return tuple(texts)
    chosen = generator("bag", seed, epoch, bag.video).choice(len(texts), n_bag, replace=False)
    return tuple(texts[i] for i in sorted(chosen))


def shuffle_bags(bags: Sequence[Bag], seed: int) -> list[Bag]:
    """The control: the same bags, name and all, dealt out to the same videos at random."""
    order = generator("control", seed).permutation(len(bags))
    return [Bag(bag.video, bags[i].name, bags[i].texts) for bag, i in zip(bags, order, strict=True)]


def bag_statistics(bags: Sequence[Bag]) -> dict[str, Any]:
    """Sizes, sources and the commonest texts of bags.

    `agreement` is the share of the bags with phrases and captions in which both gave the same text; None without such.
    """
    sizes = sorted(len(bag.texts) for bag in bags)
    sources = Counter(s for bag in bags for t in bag.texts for s in t.source.split("+"))
    texts = Counter(t.text for bag in bags for t in bag.texts)
    return {
        "n": len(sizes),
        "empty": sum(size == 0 for size in sizes),
        "smallest": sizes[0] if sizes else 0,
        "median_size": sizes[len(sizes) // 2] if sizes else 0,
        "largest": sizes[-1] if sizes else 0,
        "distinct": len(texts),
        "agreement": _agreement(bags),
        "sources": dict(sources.most_common()),
        "commonest": texts.most_common(20),
    }


def _agreement(bags: Sequence[Bag]) -> float | None:
    by_bag = [[_kinds(t) for t in bag.texts] for bag in bags]
    both = [kinds for kinds in by_bag if {"caption", "phrase"} <= set().union(*kinds)]
    return sum({"caption", "phrase"} in kinds for kinds in both) / len(both) if both else None


def _kinds(text: BagText) -> set[str]:
    """`caption`, or `phrase` for what the matched name brought."""
    return {"caption" if s.startswith("caption") else "phrase" for s in text.source.split("+")}
