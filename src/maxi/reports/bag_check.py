"""Look at a run's bags: show one, count all, and warn of signs that they tell little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError
from maxi.method import matching
from maxi.method.bags import bag_statistics
from maxi.records import Bag, Caption, Match, Phrases, Video, read_jsonl
from maxi.run import Run
from maxi.text.phrasebook import canonical_keys
from maxi.video.sources import read_names

# `lint` warns above these shares: of bags with the same text, of empty bags, of videos without captions.
IN_MOST_BAGS, EMPTY, UNCAPTIONED = 0.5, 0.1, 0.2
FEW = 20  # with fewer bags than this, shares say little
LISTED = 5  # names that one sentence lists at most


def show(run: Run, wanted: str) -> Iterator[str]:
    """Yield the match, phrases, captions and bag of one video, line by line.

    `wanted` is the id, the path or the file name of the video. Raises MaxiError when no video or more than one is
    called so.
    """
    video = _find(read_jsonl(run.manifest, Video), wanted)
    match = next((m for m in read_jsonl(run.matches, Match) if m.video == video.id), None)
    yield f"video    {video.id}  {video.path}"
    if match is None:
        yield "match    none"
        return
    kept = "kept" if match.kept else "below the threshold: no bag"
    yield f"match    {match.name}  (cosine {match.score:.3f}, {kept})"
    for phrases in _rows(run.phrases, Phrases):
        if phrases.name == match.name:
            yield from _listed(f"phrases  {phrases.source}", phrases.texts)
    for caption in _rows(run.captions, Caption):
        if caption.video == video.id:
            yield from _listed(f"captions {caption.source}", caption.captions)
    for bag in _rows(run.bags, Bag):
        if bag.video == video.id:
            yield f"bag      {len(bag.texts)} texts"
            width = max((len(t.source) for t in bag.texts), default=0)
            for t in bag.texts:
                weight = "" if t.weight == 1 else f"  (weight {t.weight:g})"
                yield f"  {t.source:{width}}  {t.text}{weight}"


def _find(videos: Sequence[Video], wanted: str) -> Video:
    """Return the video of that id or path, else of that resolved path, else of that file name."""
    for fits in (
        lambda v: wanted in (v.id, v.path),
        lambda v: Path(v.path).resolve() == Path(wanted).resolve(),
        lambda v: wanted in (Path(v.path).name, Path(v.path).stem),
    ):
        candidates = [video for video in videos if fits(video)]
        if len(candidates) > 1:
            raise MaxiError(
                f"{len(candidates)} videos are called {wanted!r}; give the path, as in manifest.jsonl"
            )
        if candidates:
            return candidates[0]
    raise MaxiError(
        f"no video of this run is called {wanted!r}; give an id or a path of manifest.jsonl"
    )


def _listed(head: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield a heading and each different text below it, with the number of times that it occurs."""
    yield head
    for text, count in Counter(texts).items():
        yield f"  {text}" + (f"  ({count} times)" if count > 1 else "")


def _rows(path: Path, kind: type[Any]) -> list[Any]:
    """Return the rows of a table; [] when it does not exist."""
    return read_jsonl(path, kind) if path.is_file() else []


def stats(run: Run, n_texts: int = 10) -> dict[str, Any]:
    """Return the figures of `method.bags.bag_statistics`, and how many videos have no bag.

    The `n_texts` commonest texts are listed.
    """
    bags = read_jsonl(run.bags, Bag)
    figures = bag_statistics(bags)
    in_bags = {bag.video for bag in bags}
    n_without = sum(video.id not in in_bags for video in _rows(run.manifest, Video))
    commonest = figures["commonest"][:n_texts]
    return {**figures, "commonest": commonest, "videos_without_bag": n_without}


def lines_of(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the figures of `stats` as lines for the terminal."""
    n_bags, n_sources = figures["n"], sum(figures["sources"].values())
    yield f"bags       {n_bags} ({figures['videos_without_bag']} videos have none)"
    yield (
        f"texts      {figures['smallest']} to {figures['largest']} in a bag, median {figures['median_size']}; "
        f"{figures['distinct']} different ones; {figures['empty']} bags are empty"
    )
    shares = [f"{source} {count / n_sources:.0%}" for source, count in figures["sources"].items()]
    yield f"sources    {', '.join(shares)}"
    if figures["agreement"] is not None:
        yield f"agreement  in {figures['agreement']:.0%} of the bags phrases and captions share a text"
    yield "commonest"
    for text, count in figures["commonest"]:
        yield f"  {count / n_bags:4.0%}  {text}"


def lint(run: Run, evaluated: Sequence[str] | None = None) -> list[str]:
    """Return signs that the bags tell little, one sentence each.

    `evaluated` are the names of an evaluation; without them, the labels of the run's own evaluation.
    """
    bags, matches = read_jsonl(run.bags, Bag), read_jsonl(run.matches, Match)
    names = read_names(run.actions)
    signs = matching.warnings(matches, names) if matches else []
    n_unmatched = len(set(names) - {m.name for m in matches})
    if n_unmatched > len(names) / 2:
        signs.append(
            f"{n_unmatched} of {len(names)} names match no video; drop those that your videos do not show."
        )
    signs.extend(_worn_texts(bags))
    if (n_empty := sum(not bag.texts for bag in bags)) > EMPTY * len(bags):
        signs.append(
            f"{n_empty} of {len(bags)} bags are empty: their videos train on the name alone; "
            "add phrases (`--expander`) or captions (`--captioner`)."
        )
    signs.extend(_uncaptioned(run, bags))
    if evaluated is None and run.eval.manifest.is_file():
        evaluated = sorted({v.label for v in read_jsonl(run.eval.manifest, Video) if v.label})
    signs.extend(_evaluated_names(evaluated or [], names, bags))
    return signs


def _worn_texts(bags: Sequence[Bag]) -> Iterator[str]:
    """Warn of texts that stand in most bags."""
    if len(bags) < FEW or len({bag.name for bag in bags}) < 2:
        return
    counts = Counter(t.text for bag in bags for t in bag.texts)
    worn = [text for text, count in counts.most_common() if count > IN_MOST_BAGS * len(bags)]
    if worn:
        yield (
            f"texts in most of the {len(bags)} bags tell nothing apart: {_some(worn)}; "
            "drop them with a file of such lines: `maxi bag --weights FILE`."
        )


def _uncaptioned(run: Run, bags: Sequence[Bag]) -> Iterator[str]:
    """Warn of many videos without captions, where there is a captioner."""
    rows = _rows(run.captions, Caption)
    captioned = {row.video for row in rows if any(row.captions)}
    n_missing = sum(bag.video not in captioned for bag in bags)
    if rows and n_missing > UNCAPTIONED * len(bags):
        yield f"{n_missing} of {len(bags)} videos have no captions; look at captions.jsonl and the captioner."


def _evaluated_names(
    evaluated: Sequence[str], names: Sequence[str], bags: Sequence[Bag]
) -> Iterator[str]:
    """Warn of evaluated names that the run was trained on, as action names or in bags."""
    known = {_key(name) for name in names}
    seen = [name for name in evaluated if _key(name) in known]
    if seen:
        yield (
            f"{len(seen)} of {len(evaluated)} evaluated names are action names of the run ({_some(seen)}): "
            "what is measured on them is not a zero-shot figure; report the others apart."
        )
    unseen = {_key(name): name for name in evaluated if _key(name) not in known}
    counts = Counter(
        unseen[k] for bag in bags for k in {_key(t.text) for t in bag.texts} & unseen.keys()
    )
    if counts:
        yield (
            f"{len(counts)} evaluated names that are not action names of the run stand in bags "
            f"({_some(list(counts))}): they are trained on; drop them (`maxi bag --weights FILE`), or say so beside "
            "the figure."
        )


def _key(name: str) -> str:
    """Return the key by which a name counts as seen, the same as in evaluation."""
    return canonical_keys(name)[0]


def _some(names: Sequence[str]) -> str:
    """Return the first few names in quotes."""
    more = ", ..." if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + more
