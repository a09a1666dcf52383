"""What comes out of a study: means over seeds with intervals, and sentences that follow from the intervals alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maxi.method.metrics import mean_interval, paired_difference, with_interval
from maxi.studies.study import Claim, Study

Records = Sequence[Mapping[str, Any]]


class Difference(NamedTuple):
    """The difference of two rows in points of top-1, with its 95 % interval."""

    gain: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the interval agrees that the first row is better, disagrees, or leaves it open."""
        if self.low > 0:
            return "agrees"
        return "disagrees" if self.high < 0 else "cannot be told"


def difference(records: Records, split: str, better: str, worse: str) -> Difference:
    """Return how much better one row is than another on the same videos.

    For several seeds the interval is Student's over the differences of each seed; for one seed it is paired over its
    videos.
    """
    one, other = (
        {r["seed"]: r for r in records if (r["split"], r["row"]) == (split, row)}
        for row in (better, worse)
    )
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) > 1:
        return Difference(*mean_interval([one[s]["top1"] - other[s]["top1"] for s in seeds]))
    pairs = list(zip(one[seeds[0]]["right"], other[seeds[0]]["right"], strict=True))
    n_gained, n_lost = pairs.count(("1", "0")), pairs.count(("0", "1"))
    return Difference(*paired_difference(n_gained, n_lost, len(pairs)))


def summary(study: Study, records: Records) -> list[dict[str, Any]]:
    """Return for each row its mean top-1 on each split, its gains over `frozen`, and what the paper prints."""
    splits = list(dict.fromkeys(r["split"] for r in records))
    rows = []
    for name in ("frozen", *study.rows):
        row: dict[str, Any] = {"row": name, "splits": {}}
        row["published"] = study.rows[name].published if name in study.rows else ""
        for split in splits:
            values = [r["top1"] for r in records if (r["split"], r["row"]) == (split, name)]
            cell: dict[str, Any] = {"top1": round(float(np.mean(values)), 2)}
            if name != "frozen":
                gain = difference(records, split, name, "frozen")
                cell |= {"gain": round(gain.gain, 2), "interval": [gain.low, gain.high]}
            row["splits"][split] = cell
        rows.append(row)
    return rows


def sentences(study: Study, records: Records) -> list[str]:
    """Return a sentence for each claim, which follows from the interval of the first split."""
    split = records[0]["split"]
    return [_sentence(claim, difference(records, split, *claim)) for claim in study.claims]


def verdicts(study: Study, records: Records) -> list[str]:
    """Return for each claim whether the direction agrees, disagrees or cannot be told."""
    split = records[0]["split"]
    return [difference(records, split, *claim).verdict for claim in study.claims]


def _sentence(claim: Claim, found: Difference) -> str:
    measured = with_interval(found.gain, (found.low, found.high))
    pair = f"“{claim.better}” over “{claim.worse}”: {measured} points"
    if found.verdict == "agrees":
        return f"{pair}, so the direction agrees."
    if found.verdict == "disagrees":
        return f"{pair}, so the direction disagrees."
    return f"{pair}, so the direction cannot be told at this size."


def table(study: Study, records: Records) -> str:
    """Return the table of a study as Markdown, with its sentences."""
    rows = summary(study, records)
    splits = list(rows[0]["splits"])
    head = ["row", *(cell for split in splits for cell in (f"{split}, top-1", "gain over frozen"))]
    head.append("published: " + study.published)
    lines = [
        f"## {study.title}",
        "",
        f"{study.source}.",
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    for row in rows:
        cells = [row["row"]]
        for split in splits:
            cell = row["splits"][split]
            gain = with_interval(cell["gain"], cell["interval"]) if "gain" in cell else ""
            cells += [f"{cell['top1']:.1f}", gain]
        lines.append(_line([*cells, row["published"]]))
    seeds = sorted({r["seed"] for r in records})
    n = {split: next(r["n"] for r in records if r["split"] == split) for split in splits}
    videos = ", ".join(f"{count} videos of {split}" for split, count in n.items())
    interval = "Student's over the seeds" if len(seeds) > 1 else "paired over the videos"
    what = f"Seeds {', '.join(map(str, seeds))}; {videos} each. Intervals of 95 % are {interval}."
    return "\n".join(
        [*lines, "", what, "", *(f"- {text}" for text in sentences(study, records)), ""]
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
