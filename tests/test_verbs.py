"""The verb parser against sentences with a hand-written key; `docs/why/verbs.md` has the figures.

`python tests/test_verbs.py` prints them, with the misses of the half on which rules may be mended.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from maxi.text.verbs import VerbParser

SENTENCES = Path(__file__).parent / "data" / "verbs.tsv"
KINDS = ("caption", "infinitive", "gerund", "name")
PARTICLES = ("up", "down", "on", "off", "out", "in", "over", "away", "around", "along")
Row = dict[str, str]


def sentences(kind: str, half: str) -> list[Row]:
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in rows if (row["kind"], row["half"]) == (kind, half)]


def key(cell: str) -> set[str]:
    return {text.strip() for part in cell.split(";") for text in part.split(",") if text.strip()}


def found(parser: VerbParser, rows: list[Row], what: str) -> list[set[str]]:
    texts = [row["text"] for row in rows]
    if rows[0]["kind"] != "caption":
        return [set(each) - {text} for each, text in zip(parser.phrases(texts), texts, strict=True)]
    if what != "phrases":
        return [set(each) for each in parser.captions(texts, what)]
    both = parser.captions(texts, "verbs+phrases")
    verbs = parser.captions(texts, "verbs")
    return [without_phrasal(set(b) - set(v)) for b, v in zip(both, verbs, strict=True)]


def without_phrasal(texts: set[str]) -> set[str]:
    """Without "reach up", which is a form of the verb, not the phrase."""
    return {t for t in texts if len(t.split()) != 2 or t.split()[1] not in PARTICLES}


def precision_recall(pairs: Iterable[tuple[set[str], set[str]]]) -> tuple[float, float]:
    pairs = list(pairs)
    right = sum(len(got & want) for got, want in pairs)
    return right / sum(len(got) for got, _ in pairs), right / sum(len(want) for _, want in pairs)


def score(parser: VerbParser, kind: str, half: str, what: str = "verbs") -> tuple[float, float]:
    rows = sentences(kind, half)
    wanted = [
        without_phrasal(key(row[what])) if what == "phrases" else key(row[what]) - {row["text"]}
        for row in rows
    ]
    return precision_recall(zip(found(parser, rows, what), wanted, strict=True))


@pytest.fixture(scope="module")
def parser() -> VerbParser:
    return VerbParser()


def test_enough_sentences_of_each_kind_half_of_them_set_aside() -> None:
    for kind in KINDS:
        assert len(sentences(kind, "aside")) >= 25
        assert abs(len(sentences(kind, "open")) - len(sentences(kind, "aside"))) <= 1


@pytest.mark.parametrize(
    ("kind", "least"), [("caption", 0.95), ("infinitive", 0.9), ("gerund", 0.9), ("name", 0.9)]
)
def test_verbs_of_the_sentences_set_aside(parser: VerbParser, kind: str, least: float) -> None:
    precision, recall = score(parser, kind, "aside")
    assert min(precision, recall) >= least, (precision, recall)


def test_nouns_of_the_sentences_set_aside(parser: VerbParser) -> None:
    assert min(score(parser, "caption", "aside", "nouns")) >= 0.85
    assert parser.captions(["two women riding horses on a dirt road"], "nouns") == [
        ["horse", "dirt road"]
    ]


def test_released_caption_bags_pair_lemma_and_gerund_as_we_do(
    parser: VerbParser, shared: Path
) -> None:
    lines = (
        (shared / "protocols/text_bags/kinetics400_blip_verbs_sample.jsonl")
        .read_text()
        .splitlines()
    )
    bags = [set(json.loads(line)["verbs"]) for line in lines]
    ours = [
        {f for w in sorted(bag) if w.endswith("ing") for f in parser.phrases([w])[0]}
        for bag in bags
    ]
    precision, recall = precision_recall(zip(ours, bags, strict=True))
    assert min(precision, recall) >= 0.99, (precision, recall)


if __name__ == "__main__":
    parser = VerbParser()
    for kind, what in [(k, "verbs") for k in KINDS] + [
        ("caption", w) for w in ("phrases", "nouns")
    ]:
        rows = sentences(kind, "open")
        for row, got in zip(rows, found(parser, rows, what), strict=True):
            want = key(row[what]) - {row["text"]}
            if got != want:
                print(
                    f"{kind} {row['text']}: extra {sorted(got - want)} missing {sorted(want - got)}"
                )
        for half in ("open", "aside"):
            precision, recall = score(parser, kind, half, what)
            print(f"{kind} {what} {half}: precision {precision:.3f} recall {recall:.3f}")
