"""What the rows of a run say, as plain tables: pure functions of rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxi.method.metrics import normalised_entropy
from maxi.randomness import shuffled

Rows = list[dict[str, Any]]

MODELS = {"frozen": "frozen", "adapted": "adapted", "shuffled": "control"}
N_CHANGED, N_PAIRS, N_NAMES = 8, 15, 20
N_LABELS = 40  # labels a confusion table can hold and still be read


class Confusion(NamedTuple):
    """Counts (R, C) with the names of rows and columns, and how many labels there are in all."""

    table: NDArray[np.int64]
    labels: list[str]
    columns: list[str]
    n_labels: int


def outcome(results: Rows) -> list[dict[str, Any]]:
    """Per dataset, split and seed: the records of all models, and what they allow to say."""
    groups: dict[tuple[str, ...], dict[str, Any]] = defaultdict(dict)
    for record in results:
        key = tuple(str(record.get(name, "")) for name in ("dataset", "split", "seed"))
        groups[key][record["model"]] = record
    several = len({key[2] for key in groups}) > 1
    return [
        {
            "title": " · ".join(filter(None, [*key[:2], f"seed {key[2]}" if several else ""])),
            "records": [r for model in MODELS if (r := records.get(model))],
            "sentences": _sentences(records),
        }
        for key, records in groups.items()
    ]


def _sentences(records: Mapping[str, dict[str, Any]]) -> list[str]:
    said = []
    adapted, control = records.get("adapted"), records.get("shuffled")
    if adapted and "gain" in adapted:
        said.append(_verdict(adapted["gain"]["top1"], adapted["n"]))
    if adapted and adapted["top1"] <= adapted["majority"]:
        said.append("Always giving the commonest label would be right at least as often.")
    if control and "gain" in control:
        gain = control["gain"]["top1"]
        low, high = gain["interval"]
        said.append(
            f"The control, trained on the same bags dealt out to the wrong videos, changes by "
            f"{signed(gain['gain'])} points ({signed(low)} to {signed(high)})"
            + ("; that much of a gain is not owed to the matches." if low > 0 else ".")
        )
    return said


def _verdict(gain: Mapping[str, Any], n: int) -> str:
    low, high = gain["interval"]
    figure = f"{signed(gain['gain'])} points top-1, 95 % interval {signed(low)} to {signed(high)}"
    if low > 0:
        return f"The adapted model is better on these {n} clips: {figure}, which excludes 0."
    if high < 0:
        return f"The adapted model is worse on these {n} clips: {figure}, which excludes 0."
    return f"No gain can be told from noise on {n} clips: {figure}, which includes 0."


def signed(number: float, digits: int = 1) -> str:
    """A difference with its sign, in type: `+1.5`, `−0.4`."""
    return f"{number:+.{digits}f}".replace("-", "−")


def unlabelled(predictions: Rows, names: Sequence[str]) -> dict[str, Any]:
    """What predictions say without labels: how far the models agree, how evenly they use names."""
    rows = both(predictions)
    said: dict[str, Any] = {"n": len(rows)}
    if rows:
        same = sum(best(row, "frozen") == best(row, "adapted") for row in rows)
        said["agreement"] = 100 * same / len(rows)
        for model in ("frozen", "adapted"):
            counts = Counter(best(r, model) for r in rows)
            even = normalised_entropy(np.array([counts[name] for name in names]))
            said[model] = {"used": len(counts), "entropy": even}
    return said


def best(row: Mapping[str, Any], model: str) -> str:
    """A model's best name for a video."""
    return str(row[model][0][0])


def both(rows: Iterable[dict[str, Any]]) -> Rows:
    """The rows that hold answers of both models."""
    return [row for row in rows if row.get("frozen") and row.get("adapted")]


def source_kind(source: str) -> str:
    """Where a bag's text comes from at large: `phrase`, `caption`, `name` or `other`."""
    kind = re.split("[:+]", source, maxsplit=1)[0]  # of several sources the first
    return kind if kind in ("phrase", "caption", "name") else "other"


def changed(rows: Rows, seed: int) -> Rows:
    """Some videos whose best name changed: one of each pair of names first, common pairs first."""
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    moved = {row["video"]: row for row in both(rows) if best(row, "frozen") != best(row, "adapted")}
    for video in shuffled(list(moved), "changed", seed):
        row = moved[video]
        groups[best(row, "frozen"), best(row, "adapted")].append(row)
    queues = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    depth = max((len(queue) for _, queue in queues), default=0)
    order = (queue[i] for i in range(depth) for _, queue in queues if i < len(queue))
    return list(islice(order, N_CHANGED))


def pairs(rows: Rows) -> list[dict[str, Any]]:
    """The commonest changes, and how many of them are known to have mended or broken an answer."""
    changes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        before, after = best(row, "frozen"), best(row, "adapted")
        if before != after:
            kind = {before: "broken", after: "mended"}.get(row.get("label") or "", "neither")
            changes[before, after][kind] += 1
    commonest = sorted(changes.items(), key=lambda item: (-item[1].total(), item[0]))[:N_PAIRS]
    return [
        {"frozen": a, "adapted": b, "n": c.total(), "mended": c["mended"], "broken": c["broken"]}
        for (a, b), c in commonest
    ]


def balance(rows: Rows) -> list[tuple[str, int, int]]:
    """The most used names and how often each model answers them."""
    before, after = (Counter(best(row, model) for row in rows) for model in ("frozen", "adapted"))
    both = before + after
    return [(n, before[n], after[n]) for n in sorted(both, key=lambda n: (-both[n], n))[:N_NAMES]]


def by_label(results: Rows) -> dict[str, Any]:
    """Per label its clips and how many each model gets right, the largest change first."""
    first = {record["model"]: record for record in reversed(results)}
    tables = {model: first[model].get("per_class", {}) for model in MODELS if model in first}
    labels = dict.fromkeys(label for table in tables.values() for label in table)
    rows = []
    for label in labels:
        right = {model: int(table.get(label, (0, 0))[0]) for model, table in tables.items()}
        n = max(int(table[label][1]) for table in tables.values() if label in table)
        change = right.get("adapted", 0) - right.get("frozen", 0)
        rows.append({"label": label, "n": n, "right": right, "change": change})
    rows.sort(key=lambda row: (-abs(row["change"]), -row["change"], -row["n"], row["label"]))
    return {"models": list(tables), "rows": rows}


def confusion(answers: Rows, model: str) -> Confusion | None:
    """A confusion table of the commonest labels; answers that are no such label share a column."""
    pairs = [(r["label"], best(r, model)) for r in answers if r.get("label") and r.get(model)]
    if not pairs:
        return None
    counts = Counter(label for label, _ in pairs)
    labels = sorted(sorted(counts, key=lambda n: (-counts[n], n))[:N_LABELS])
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for label, answer in pairs:
        if label in place:
            table[place[label], place.get(answer, len(labels))] += 1
    columns = [*labels, "(another name)"] if table[:, -1].any() else labels
    return Confusion(table[:, : len(columns)], labels, columns, len(counts))
