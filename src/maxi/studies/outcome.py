"""What comes out of a study: means over seeds with intervals, and sentences that follow from the intervals alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maxi.method.metrics import mean_interval, paired_difference, with_interval
from maxi.method.shares import FEW
from maxi.studies.study import Claim, Study

Records = Sequence[Mapping[str, Any]]

MATCHING = ("matched", "kept")
"""How many percent of all matches, and of those that are kept, are right."""


class Difference(NamedTuple):
    """The difference of two rows in points, with its 95 % interval."""

    gain: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the interval agrees that the first row is better, disagrees, or leaves it open."""
        if self.low > 0:
            return "agrees"
        return "disagrees" if self.high < 0 else "cannot be told"


def by_world(records: Records) -> Iterator[tuple[str, Records]]:
    """Yield the regimes of a study, and the records of each."""
    for world in dict.fromkeys(r["world"] for r in records):
        yield world, [r for r in records if r["world"] == world]


def splits_of(records: Records) -> dict[str, str]:
    """Return what is measured on each split, top-1 or mAP."""
    return {r["split"]: r["metric"] for r in records}


def difference(records: Records, split: str, better: str, worse: str) -> Difference:
    """Return how much better one row is than another on the same videos of one world.

    For several seeds the interval is Student's over the differences of each seed. For one seed it is paired over its
    videos, and for mAP Student's over the names.
    """
    one, other = (
        {r["seed"]: r for r in records if (r["split"], r["row"]) == (split, row)}
        for row in (better, worse)
    )
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) > 1:
        return Difference(*mean_interval([one[s]["value"] - other[s]["value"] for s in seeds]))
    pairs = list(zip(one[seeds[0]]["parts"], other[seeds[0]]["parts"], strict=True))
    if not isinstance(pairs[0][0], str):
        return Difference(*mean_interval([a - b for a, b in pairs]))
    n_gained, n_lost = pairs.count(("1", "0")), pairs.count(("0", "1"))
    return Difference(*paired_difference(n_gained, n_lost, len(pairs)))


def summary(study: Study, records: Records) -> list[dict[str, Any]]:
    """Return for each row of one world its mean on each split, its gains over `frozen`, and what the paper prints.

    `matching` holds how right its matches are, where that is known.
    """
    rows = []
    for name in ("frozen", *study.rows):
        of_row = [r for r in records if r["row"] == name]
        row: dict[str, Any] = {"row": name, "splits": {}}
        row["published"] = study.rows[name].published if name in study.rows else ""
        row["matching"] = {
            key: float(np.mean([r[key] for r in of_row])) for key in MATCHING if key in of_row[0]
        }
        for split in splits_of(records):
            values = [r["value"] for r in of_row if r["split"] == split]
            cell: dict[str, Any] = {"value": round(float(np.mean(values)), 2)}
            if name != "frozen":
                gain = difference(records, split, name, "frozen")
                cell |= {"gain": round(gain.gain, 2), "interval": [gain.low, gain.high]}
            row["splits"][split] = cell
        rows.append(row)
    return rows


def sentences(study: Study, records: Records) -> list[str]:
    """Return a sentence for each claim on one world, which follows from the interval of the claim's split."""
    return [_sentence(claim, _found(records, claim)) for claim in _claims(study, records)]


def verdicts(study: Study, records: Records) -> list[str]:
    """Return for each claim on one world whether the direction agrees, disagrees or cannot be told."""
    return [_found(records, claim).verdict for claim in _claims(study, records)]


def _claims(study: Study, records: Records) -> list[Claim]:
    """Return the claims whose videos were measured; those of the rendered world are not among a user's own."""
    splits = splits_of(records)
    return [claim for claim in study.claims if not claim.split or claim.split in splits]


def _found(records: Records, claim: Claim) -> Difference:
    return difference(records, claim.split or records[0]["split"], claim.better, claim.worse)


def _sentence(claim: Claim, found: Difference) -> str:
    measured = with_interval(found.gain, (found.low, found.high))
    where = f" on {claim.split}" if claim.split else ""
    pair = f"“{claim.better}” over “{claim.worse}”{where}: {measured} points"
    if found.verdict == "agrees":
        return f"{pair}, so the direction agrees."
    if found.verdict == "disagrees":
        return f"{pair}, so the direction disagrees."
    return f"{pair}, so the direction cannot be told at this size."


LITTLE = 1.0  # a gain of fewer points than this is little


def warned(records: Records, row: str = "adapted") -> str:
    """Say how often the warning of few names in use came in the collections, and what was gained there and elsewhere.

    A collection is one seed of one world. It gains little where the row is not at least a point better than the frozen
    model on the first split or is worse on the last one.
    """
    gains: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _, of_world in by_world(records):
        first, *_, last = splits_of(of_world)
        values = {(r["seed"], r["row"], r["split"]): r["value"] for r in of_world}
        for told in (r for r in of_world if r["row"] == row and r["split"] == first):
            gained = [
                values[told["seed"], row, split] - values[told["seed"], "frozen", split]
                for split in (first, last)
            ]
            gains[told["in_use"] < FEW].append((gained[0], gained[1]))
    return " ".join(
        f"{'With' if came else 'Without'} the warning of few names in use: {_gained(rows, first, last)}."
        for came, rows in gains.items()
    )


def _gained(rows: Sequence[tuple[float, float]], first: str, last: str) -> str:
    if not rows:
        return "no collection"
    little = sum(one < LITTLE or other < 0 for one, other in rows)
    means = np.mean(rows, axis=0)
    return (
        f"{len(rows)} collection{'s' * (len(rows) > 1)}, {little} of which gained little; on average {means[0]:+.1f} "
        f"points on {first}, {means[1]:+.1f} on {last}"
    )


def conditions(records: Records) -> str:
    """Say which seeds and how many videos the figures of one world are of, and what their intervals are over."""
    seeds = sorted({r["seed"] for r in records})
    n = {split: [r["n"] for r in records if r["split"] == split] for split in splits_of(records)}
    videos = ", ".join(f"{_range(counts)} videos of {split}" for split, counts in n.items())
    interval = "Student's over the seeds" if len(seeds) > 1 else "paired over the videos"
    return f"Seeds {', '.join(map(str, seeds))}; {videos} each. Intervals of 95 % are {interval}."


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def table(study: Study, records: Records) -> str:
    """Return the tables of a study as Markdown, one for each world, with their sentences."""
    lines = [f"## {study.title}", "", f"{study.source}.", ""]
    for world, of_world in by_world(records):
        if len(study.worlds) > 1:
            lines += [f"### {world}", ""]
        lines += [*_table(study, of_world), "", conditions(of_world), ""]
        lines += [f"- {text}" for text in sentences(study, of_world)]
        lines.append("")
    if len(study.worlds) > 1:
        lines += [warned(records), ""]
    return "\n".join(lines)


def _table(study: Study, records: Records) -> Iterator[str]:
    rows = summary(study, records)
    splits = splits_of(records)
    matching = [key for key in MATCHING if any(key in row["matching"] for row in rows)]
    with_published = any(row["published"] for row in rows)
    head = ["row", *(f"{key}, right %" for key in matching)]
    head += [
        cell
        for split, metric in splits.items()
        for cell in (f"{split}, {metric}", "gain over frozen")
    ]
    head += ["published: " + study.published] * with_published
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        cells = [row["row"]]
        cells += [
            f"{row['matching'][key]:.1f}" if key in row["matching"] else "" for key in matching
        ]
        for split in splits:
            cell = row["splits"][split]
            gain = with_interval(cell["gain"], cell["interval"]) if "gain" in cell else ""
            cells += [f"{cell['value']:.1f}", gain]
        yield _line([*cells, *[row["published"]] * with_published])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
