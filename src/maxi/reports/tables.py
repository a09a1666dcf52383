"""Tables and sentences made from the rows of a run's results and predictions, by pure functions."""

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
N_LABELS = 40  # a confusion table of more labels cannot be read


class Confusion(NamedTuple):
    """Counts (R, C), the names of the rows and columns, and how many labels there are in all."""

    table: NDArray[np.int64]
    labels: list[str]
    columns: list[str]
    n_labels: int


def outcome(results: Rows) -> list[dict[str, Any]]:
    """Return for each dataset, split and seed the records of all models, and what can be said from them."""
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
    """Return sentences on the gain of the adapted model and of the control."""
    sentences = []
    adapted, control = records.get("adapted"), records.get("shuffled")
    if adapted and "gain" in adapted:
        sentences.append(_verdict(adapted["gain"]["top1"], adapted["n"]))
    if adapted and adapted["top1"] <= adapted["majority"]:
        sentences.append("Always giving the commonest label would be right at least as often.")
    if control and "gain" in control:
        gain = control["gain"]["top1"]
        low, high = gain["interval"]
        sentences.append(
            f"The control, trained on the same bags dealt out to the wrong videos, changes by "
            f"{signed(gain['gain'])} points ({signed(low)} to {signed(high)})"
            + ("; that much of a gain does not come from the matches." if low > 0 else ".")
        )
    return sentences


def _verdict(gain: Mapping[str, Any], n: int) -> str:
    """Say whether the adapted model is better on `n` clips, worse, or neither."""
    low, high = gain["interval"]
    figure = f"{signed(gain['gain'])} points top-1, 95 % interval {signed(low)} to {signed(high)}"
    if low > 0:
        return f"The adapted model is better on these {n} clips: {figure}, which excludes 0."
    if high < 0:
        return f"The adapted model is worse on these {n} clips: {figure}, which excludes 0."
    return f"No gain can be told from noise on {n} clips: {figure}, which includes 0."


def signed(number: float, digits: int = 1) -> str:
    """Return a difference with its sign, with a true minus sign: `+1.5`, `−0.4`."""
    return f"{number:+.{digits}f}".replace("-", "−")


def unlabelled(predictions: Rows, names: Sequence[str]) -> dict[str, Any]:
    """Return what predictions say without labels: how often the models agree, and how evenly each uses the names."""
    rows = both(predictions)
    figures: dict[str, Any] = {"n": len(rows)}
    if rows:
        n_same = sum(best(row, "frozen") == best(row, "adapted") for row in rows)
        figures["agreement"] = 100 * n_same / len(rows)
        for model in ("frozen", "adapted"):
            counts = Counter(best(r, model) for r in rows)
            entropy = normalised_entropy(np.array([counts[name] for name in names]))
            figures[model] = {"used": len(counts), "entropy": entropy}
    return figures


def best(row: Mapping[str, Any], model: str) -> str:
    """Return a model's best name for the video of a row."""
    return str(row[model][0][0])


def both(rows: Iterable[dict[str, Any]]) -> Rows:
    """Return the rows that hold answers of both models."""
    return [row for row in rows if row.get("frozen") and row.get("adapted")]


def source_kind(source: str) -> str:
    """Return the kind of a source of texts: `phrase`, `caption`, `name` or `other`. Of several, the first counts."""
    kind = re.split("[:+]", source, maxsplit=1)[0]
    return kind if kind in ("phrase", "caption", "name") else "other"


def changed(rows: Rows, seed: int) -> Rows:
    """Return the rows of some videos whose best name changed.

    They come in turns, one of each pair of names at a time, the commonest pair first.
    """
    by_video = {
        row["video"]: row for row in both(rows) if best(row, "frozen") != best(row, "adapted")
    }
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    for video in shuffled(list(by_video), "changed", seed):
        row = by_video[video]
        groups[best(row, "frozen"), best(row, "adapted")].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    n_turns = max((len(group) for _, group in ordered), default=0)
    in_turns = (group[i] for i in range(n_turns) for _, group in ordered if i < len(group))
    return list(islice(in_turns, N_CHANGED))


def pairs(rows: Rows) -> list[dict[str, Any]]:
    """Return the commonest changes of the best name, and how many of them are known to mend or break an answer."""
    changes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        before, after = best(row, "frozen"), best(row, "adapted")
        if before != after:
            kind = {before: "broken", after: "mended"}.get(row.get("label") or "", "neither")
            changes[before, after][kind] += 1
    commonest = sorted(changes.items(), key=lambda item: (-item[1].total(), item[0]))[:N_PAIRS]
    return [
        {
            "frozen": before,
            "adapted": after,
            "n": kinds.total(),
            "mended": kinds["mended"],
            "broken": kinds["broken"],
        }
        for (before, after), kinds in commonest
    ]


def balance(rows: Rows) -> list[tuple[str, int, int]]:
    """Return the names that are used most, and how often the frozen and the adapted model answer each."""
    before, after = (Counter(best(row, model) for row in rows) for model in ("frozen", "adapted"))
    total = before + after
    commonest = sorted(total, key=lambda name: (-total[name], name))[:N_NAMES]
    return [(name, before[name], after[name]) for name in commonest]


def by_label(results: Rows) -> dict[str, Any]:
    """Return for each label its clips and how many each model gets right, the largest change first."""
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
    """Return the confusion table of the commonest labels; all answers that are not such a label share one column."""
    pairs = [(r["label"], best(r, model)) for r in answers if r.get("label") and r.get(model)]
    if not pairs:
        return None
    counts = Counter(label for label, _ in pairs)
    labels = sorted(sorted(counts, key=lambda label: (-counts[label], label))[:N_LABELS])
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for label, answer in pairs:
        if label in place:
            table[place[label], place.get(answer, len(labels))] += 1
    columns = [*labels, "(another name)"] if table[:, -1].any() else labels
    return Confusion(table[:, : len(columns)], labels, columns, len(counts))
