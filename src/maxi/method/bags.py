"""Bags: collect the matched name, the phrases and the captions of a video as its noisy texts (section 3.2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxi.config import BagConfig
from maxi.errors import MaxiError
from maxi.files import given_path
from maxi.randomness import generator
from maxi.records import Bag, BagText, Caption, Match, Other, Phrases, bag_text
from maxi.text.clean import clean
from maxi.text.verbs import VerbParser

CHUNK = 1024  # videos whose captions are parsed together


class Parser(Protocol):
    """The two methods of a verb parser that bags use; see `maxi.text.verbs.VerbParser`."""

    def captions(self, texts: Sequence[str], parts: str) -> list[list[str]]: ...

    def phrases(self, texts: Sequence[str]) -> list[list[str]]: ...


class AsGiven:
    """Takes texts as they are; a name gives none."""

    def captions(self, texts: Sequence[str], parts: str) -> list[list[str]]:
        """Return each caption as the only text of it."""
        return [[text] for text in texts]

    def phrases(self, texts: Sequence[str]) -> list[list[str]]:
        """Return each phrase as the only text of it."""
        return [[text] for text in texts]


def build_bags(
    matches: Iterable[Match],
    phrases: Sequence[Phrases],
    captions: Iterable[Caption],
    parser: Parser | None = None,
    config: BagConfig | None = None,
) -> Iterator[Bag]:
    """Yield a bag for each kept match, in the order of the matches; `parser` is by default a `VerbParser`.

    A bag holds the phrases of the matched name with their verbs, then the verbs of the name, then the texts that
    come from the captions. Each verb appears as lemma and as gerund. A text that several sources give appears once
    and names all of them. The name itself is left out, because it is in every training prompt already ("To avoid
    duplication, we do not use t_i as text2", appendix B). With `config.as_given` no verbs are added.
    """
    config, parser = config or BagConfig(), parser or VerbParser()
    captions_of_videos = {row.video: row for row in captions}
    weights = read_weights(given_path(config.weights)) if config.weights else {}
    if config.as_given:
        parser = AsGiven()
    texts_of_name = _texts_of_names(phrases if config.phrases else (), parser)
    kept = (match for match in matches if match.kept)
    while chunk := list(islice(kept, CHUNK)):
        caption_texts = _texts_of_captions(chunk, captions_of_videos, parser, config)
        for match in chunk:
            name_texts = texts_of_name(match.name) if config.phrases else []
            texts = [*name_texts, *caption_texts.get(match.video, ())]
            own_texts = _distinct(texts, match.name)
            known = {match.name, *(t.text for t in own_texts)}
            others = match.others if config.phrases else ()
            other_texts = _texts_of_others(others, texts_of_name, known)
            yield Bag(match.video, match.name, _weighted([*own_texts, *other_texts], weights))


def _texts_of_names(phrases: Sequence[Phrases], parser: Parser) -> Callable[[str], list[BagText]]:
    """Return a function that gives the phrases of a name with their verbs, then the verbs of the name.

    A name is parsed when it is first asked for, since of many names few are matched.
    """
    rows_of_names: dict[str, list[Phrases]] = {}
    for row in phrases:
        rows_of_names.setdefault(row.name, []).append(row)

    @cache
    def texts_of_name(name: str) -> list[BagText]:
        texts = [
            bag_text(text, f"phrase:{row.source}")
            for row in rows_of_names.get(name, ())
            for parsed in parser.phrases(row.texts)
            for text in parsed
        ]
        return texts + [bag_text(text, "name") for text in parser.phrases([name])[0]]

    return texts_of_name


def _texts_of_captions(
    matches: Sequence[Match], captions: Mapping[str, Caption], parser: Parser, config: BagConfig
) -> dict[str, list[BagText]]:
    """Return the texts that the captions of each matched video give; equal captions are parsed once."""
    if not config.captions:
        return {}
    rows = [captions[match.video] for match in matches if match.video in captions]
    distinct = list(dict.fromkeys(caption for row in rows for caption in row.captions))
    parsed = dict(zip(distinct, parser.captions(distinct, config.caption_parts), strict=True))
    return {
        row.video: [
            bag_text(text, f"caption:{row.source}")
            for caption in row.captions
            for text in parsed[caption]
        ]
        for row in rows
    }


def _texts_of_others(
    others: Sequence[Other], texts_of_name: Callable[[str], list[BagText]], known: set[str]
) -> Iterator[BagText]:
    """Yield the texts of the next nearest names (soft matching), with each name's weight and under that name.

    Texts in `known` are left out, and the yielded ones are added to it.
    """
    for other in others:
        for text in texts_of_name(other.name):
            if text.text not in known and text.text != other.name:
                known.add(text.text)
                yield bag_text(text.text, text.source, other.weight, other.name)


def _distinct(texts: Sequence[BagText], name: str) -> tuple[BagText, ...]:
    """Return each text once with all its sources, and without the name itself."""
    sources_of_texts: dict[str, dict[str, None]] = {}
    for text in texts:
        sources_of_texts.setdefault(text.text, {})[text.source] = None
    sources_of_texts.pop(name, None)
    sources_of_texts.pop(clean(name), None)
    return tuple(bag_text(text, "+".join(sources)) for text, sources in sources_of_texts.items())


def read_weights(path: Path) -> dict[str, float]:
    """Read the weights of texts from a file with one text a line, followed by a tab and its weight.

    A text without a number gets the weight 0, which drops it from the bags. Raises MaxiError when the file cannot be
    read, or a weight is not a number of 0 or more.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise MaxiError(
            f"{path}: the weights of texts cannot be read ({reason}); check bag.weights"
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
                f"{path}:{number}: {value!r} is not a weight; write a number of 0 or more after the tab, "
                "or nothing to drop the text"
            )
        weights[clean(text)] = weight
    return weights


def _weighted(texts: Sequence[BagText], weights: Mapping[str, float]) -> tuple[BagText, ...]:
    """Return the texts with their weights multiplied by those of the file, and without those of weight 0."""
    if not weights:
        return tuple(texts)
    weighted = [(t, t.weight * weights.get(t.text, 1.0)) for t in texts]
    return tuple(bag_text(t.text, t.source, weight, t.name) for t, weight in weighted if weight)


def sample_bag(
    bag: Bag, n_bag: int, *, seed: int, epoch: int, refill: bool = False
) -> tuple[BagText, ...]:
    """Draw at most `n_bag` distinct texts of a bag, without replacement and in the order of the bag.

    The draw depends on (seed, epoch, video id) alone. Texts of equal weight are drawn evenly, others by their weight.
    A text that was drawn by its weight does not have it in the loss once more: the returned weights are such that over
    the epochs each text counts by its weight.

    A bag of `n_bag` texts or fewer is returned whole, with its weights; the loader masks the places that stay empty.
    With `refill` its texts are repeated to `n_bag`, as the released code does: as often as the whole bag fits, then
    some once more. A repeated text is returned once, with a multiple of its weight.
    """
    texts = [t for t in bag.texts if t.text != bag.name]
    weights, rng = np.array([t.weight for t in texts]), generator("bag", seed, epoch, bag.video)
    if not texts or (len(texts) <= n_bag and not refill):
        return tuple(texts)
    if len(texts) <= n_bag:
        times, n_more = divmod(n_bag, len(texts))
        repeats = np.full(len(texts), times)
        repeats[rng.choice(len(texts), n_more, replace=False)] += 1
        chosen, weights = np.arange(len(texts)), weights * repeats
    elif np.ptp(weights) == 0:
        chosen = rng.choice(len(texts), n_bag, replace=False)
    else:
        chosen, weights = _draw_by_weight(weights, n_bag, rng)
    return tuple(texts[i]._replace(weight=float(weights[i])) for i in sorted(chosen))


def _draw_by_weight(
    weights: NDArray[np.float64], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw `n` places by weight, and return them with new weights (N,) that make up for the draw.

    This is priority sampling (Duffield, Lund and Thorup 2007). What is drawn counts by its own weight or by the first
    priority that is left out, whichever is larger: then the expected weight of every place is its weight. The new
    weights are scaled to what `n` draws by weight have on average, so that bags of any size count alike.
    """
    priorities = weights / (1 - rng.random(len(weights)))
    order = np.argsort(-priorities)
    counted = np.maximum(weights, priorities[order[n]])
    total = min(weights.sum(), n * (weights / weights.sum() * weights).sum())
    return order[:n], counted * (total / counted[order[:n]].sum())


def shuffle_bags(bags: Sequence[Bag], seed: int) -> list[Bag]:
    """Give each video the name and texts of a randomly chosen bag, each bag used once: the control experiment."""
    order = generator("control", seed).permutation(len(bags))
    return [Bag(bag.video, bags[i].name, bags[i].texts) for bag, i in zip(bags, order, strict=True)]


def bag_statistics(bags: Sequence[Bag]) -> dict[str, Any]:
    """Return the sizes, the sources and the commonest texts of the bags.

    `agreement` is the share of bags in which a phrase and a caption gave the same text, among the bags with both
    phrases and captions; it is None when there is no such bag.
    """
    sizes = sorted(len(bag.texts) for bag in bags)
    source_counts = Counter(s for bag in bags for t in bag.texts for s in t.source.split("+"))
    text_counts = Counter(t.text for bag in bags for t in bag.texts)
    return {
        "n": len(sizes),
        "empty": sum(size == 0 for size in sizes),
        "smallest": sizes[0] if sizes else 0,
        "median_size": sizes[len(sizes) // 2] if sizes else 0,
        "largest": sizes[-1] if sizes else 0,
        "distinct": len(text_counts),
        "agreement": _agreement(bags),
        "sources": dict(source_counts.most_common()),
        "commonest": text_counts.most_common(20),
    }


def _agreement(bags: Sequence[Bag]) -> float | None:
    both = {"caption", "phrase"}
    bags_of_kinds = [[_kinds(t) for t in bag.texts] for bag in bags]
    bags_with_both = [kinds for kinds in bags_of_kinds if both <= set().union(*kinds)]
    if not bags_with_both:
        return None
    return sum(both in kinds for kinds in bags_with_both) / len(bags_with_both)


def _kinds(text: BagText) -> set[str]:
    """Return the kinds of a text's sources: `caption`, and `phrase` for phrases and for the name's verbs."""
    return {"caption" if s.startswith("caption") else "phrase" for s in text.source.split("+")}
