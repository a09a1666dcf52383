"""Measure what `maxi bag` saves by parsing only those names, of very many, that some video is matched to.

    python benchmarks/names.py

The same bags are built in both ways, in turns: from the phrases of all names, which are parsed first, and as the stage
does it. The names and phrases are made of the shipped ones.
"""

from __future__ import annotations

import argparse
import time

from maxi.method.bags import build_bags
from maxi.records import Bag, Match, Phrases
from maxi.text.phrasebook import shipped_book
from maxi.text.verbs import VerbParser


def make(n_names: int, n_matched: int, n_videos: int) -> tuple[list[Phrases], list[Match]]:
    """Return phrases of so many names, all different, and matches of videos to the first `n_matched` of them."""
    known = list(shipped_book().texts.items())
    phrases = []
    for n in range(n_names):
        name, texts = known[n % len(known)]
        again = f" {n // len(known)}" * (n >= len(known))
        phrases.append(Phrases(name + again, tuple(text + again for text in texts), "shipped"))
    matches = [Match(f"v{n}", phrases[n % n_matched].name, 1.0, True) for n in range(n_videos)]
    return phrases, matches


def timed(
    phrases: list[Phrases], matches: list[Match], *, all_first: bool
) -> tuple[float, list[Bag]]:
    """Return the seconds that the bags take, and the bags."""
    parser, began = VerbParser(), time.perf_counter()
    if all_first:
        for row in phrases:
            parser.phrases(row.texts)
            parser.phrases([row.name])
    bags = list(build_bags(matches, phrases, [], parser))
    return time.perf_counter() - began, bags


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=20_000, help="Names (default: %(default)s).")
    parser.add_argument("--matched", type=int, default=400, help="Names with videos (%(default)s).")
    parser.add_argument("--videos", type=int, default=30_000, help="Videos (%(default)s).")
    options = parser.parse_args()
    phrases, matches = make(options.n, options.matched, options.videos)
    timed(phrases[:10], matches[:10], all_first=True)  # load the parser's model
    few, few_bags = timed(phrases, matches, all_first=False)
    every, every_bags = timed(phrases, matches, all_first=True)
    assert few_bags == every_bags
    print(
        f"{options.n:,} names, {options.matched} of them matched, {options.videos:,} videos: all names {every:.1f} s, "
        f"matched names {few:.1f} s, {every / few:.1f} times"
    )


if __name__ == "__main__":
    main()
