"""What is in a run's bags: one bag, all of them in figures, and signs that they degenerate."""

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
from maxi.text.phrasebook import split_words
from maxi.video.sources import read_names

# Shares from which lint speaks up.
IN_MOST_BAGS, EMPTY, UNCAPTIONED = 0.5, 0.1, 0.2
FEW = 20  # bags below which shares say little
LISTED = 5  # names that one sentence lists


def show(run: Run, wanted: str) -> Iterator[str]:
    """One video's match, captions and bag, line by line; `wanted` is its id, its path or its file name.

    Raises MaxiError when no video or more than one goes by that name.
    """
    video = _find(read_jsonl(run.manifest, Video), wanted)
    match = next((m for m in read_jsonl(run.matches, Match) if m.video == video.id), None)
    yield f"video    {video.id}  {video.path}"
    if match is None:
        yield "match    none"
        return
    kept = "kept" if match.kept else "below the threshold: no bag"
    yield f"match    {match.name}  (cosine {match.score:.3f}, {kept})"
    for row in _rows(run.phrases, Phrases):
        if row.name == match.name:
            yield from _listed(f"phrases  {row.source}", row.texts)
    for row in _rows(run.captions, Caption):
        if row.video == video.id:
            yield from _listed(f"captions {row.source}", row.captions)
    for bag in _rows(run.bags, Bag):
        if bag.video == video.id:
            yield f"bag      {len(bag.texts)} texts"
            width = max((len(t.source) for t in bag.texts), default=0)
            for t in bag.texts:
                weight = "" if t.weight == 1 else f"  (weight {t.weight:g})"
                yield f"  {t.source:{width}}  {t.text}{weight}"


def _find(videos: Sequence[Video], wanted: str) -> Video:
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
    yield head
    for text, count in Counter(texts).items():
        yield f"  {text}" + (f"  ({count} times)" if count > 1 else "")


def _rows(path: Path, kind: type[Any]) -> list[Any]:
    return read_jsonl(path, kind) if path.is_file() else []


def stats(run: Run, n_texts: int = 10) -> dict[str, Any]:
    """Figures of all bags: those of `bags.bag_statistics`, and how many videos have none."""
    bags = read_jsonl(run.bags, Bag)
    figures = bag_statistics(bags)
    in_bags = {bag.video for bag in bags}
    without = sum(video.id not in in_bags for video in _rows(run.manifest, Video))
    return {**figures, "commonest": figures["commonest"][:n_texts], "videos_without_bag": without}


def lines_of(figures: dict[str, Any]) -> Iterator[str]:
    """`stats` for the terminal."""
    n, total = figures["n"], sum(figures["sources"].values())
    yield f"bags       {n} ({figures['videos_without_bag']} videos have none)"
    yield (
        f"texts      {figures['smallest']} to {figures['largest']} in a bag, median {figures['median_size']}; "
        f"{figures['distinct']} different ones; {figures['empty']} bags are empty"
    )
    shares = [f"{source} {count / total:.0%}" for source, count in figures["sources"].items()]
    yield f"sources    {', '.join(shares)}"
    if figures["agreement"] is not None:
        yield f"agreement  in {figures['agreement']:.0%} of the bags phrases and captions share a text"
    yield "commonest"
    for text, count in figures["commonest"]:
        yield f"  {count / n:4.0%}  {text}"


def lint(run: Run, evaluated: Sequence[str] | None = None) -> list[str]:
    """Signs that the bags degenerate, one sentence each; `evaluated` are names of an evaluation, else the run's own."""
    bags, matches = read_jsonl(run.bags, Bag), read_jsonl(run.matches, Match)
    names = read_names(run.actions)
    signs = matching.warnings(matches, names) if matches else []
    unmatched = len(set(names) - {m.name for m in matches})
    if unmatched > len(names) / 2:
        signs.append(
            f"{unmatched} of {len(names)} names match no video; drop those that your videos do not show."
        )
    signs.extend(_worn_texts(bags))
    if (empty := sum(not bag.texts for bag in bags)) > EMPTY * len(bags):
        signs.append(
            f"{empty} of {len(bags)} bags are empty and train on the class prompt alone; "
            "add phrases (`--expander`) or captions (`--captioner`)."
        )
    signs.extend(_uncaptioned(run, bags))
    if evaluated is None and run.eval.manifest.is_file():
        evaluated = sorted({v.label for v in read_jsonl(run.eval.manifest, Video) if v.label})
    signs.extend(_evaluated_names(evaluated or [], names, bags))
    return signs


def _worn_texts(bags: Sequence[Bag]) -> Iterator[str]:
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
    rows = _rows(run.captions, Caption)
    said = {row.video for row in rows if any(row.captions)}
    missing = sum(bag.video not in said for bag in bags)
    if rows and missing > UNCAPTIONED * len(bags):
        yield f"{missing} of {len(bags)} videos have no captions; look at captions.jsonl and the captioner."


def _evaluated_names(
    evaluated: Sequence[str], names: Sequence[str], bags: Sequence[Bag]
) -> Iterator[str]:
    known = {_key(name) for name in names}
    seen = [name for name in evaluated if _key(name) in known]
    if seen:
        yield (
            f"{len(seen)} of {len(evaluated)} evaluated names are action names of the run ({_some(seen)}): "
            "what is measured on them is no zero-shot figure; report the others apart."
        )
    unseen = {_key(name): name for name in evaluated if _key(name) not in known}
    counts = Counter(
        unseen[k] for bag in bags for k in {_key(t.text) for t in bag.texts} & unseen.keys()
    )
    if counts:
        yield (
            f"{len(counts)} evaluated names that are no action names of the run stand in bags ({_some(list(counts))}): "
            "they were trained on; drop them (`maxi bag --weights FILE`), or say so beside the figure."
        )


def _key(name: str) -> str:
    return " ".join(split_words(name))


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + more
