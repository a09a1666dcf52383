"""`report.html`: what a run did, whether it helped, and what it did to single videos, in one file that needs no other."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxi import figures
from maxi.bags import bag_statistics
from maxi.decoding import Decoder
from maxi.errors import MaxiError
from maxi.matching import entropy, warnings
from maxi.metrics import normalised_entropy
from maxi.pages import fill, previews, read_rows
from maxi.randomness import shuffled
from maxi.records import (
    Bag,
    Caption,
    Match,
    Row,
    Skipped,
    Video,
    iterate_jsonl,
    read_json,
    write_text,
)

Rows = list[dict[str, Any]]

N_EXAMPLES, N_CHANGED, N_PAIRS, N_NAMES, N_SKIPPED = 12, 8, 15, 20, 50
N_LABELS = 40  # labels a confusion table can hold and still be read
N_FRAMES, HEIGHT = 4, 120
MODELS = {"frozen": "frozen CLIP", "adapted": "adapted", "shuffled": "control (shuffled bags)"}


def write_report(run: Path, decoder: Decoder, *, seed: int = 0) -> Path:
    """Write `run/report.html` from the files the run has; sections without their files are left out.

    `seed` chooses the example videos. Raises MaxiError when the folder holds no run or a file in it is malformed.
    """
    if not (run / "config.yaml").is_file() and not (run / "manifest.jsonl").is_file():
        raise MaxiError(f"{run}: holds no run; give the folder that `maxi adapt` wrote")
    names = _names(run / "dictionary.txt")
    matches = _rows(run / "matches.jsonl", Match)
    bags = _rows(run / "bags.jsonl", Bag)
    predictions = read_rows(run / "predictions.jsonl")
    answers = read_rows(run / "eval" / "predictions.jsonl")
    train = read_rows(run / "train.jsonl")
    results = read_json(run / "results.json") if (run / "results.json").is_file() else []
    names = names or sorted({m.label for m in matches})

    examples = _examples(matches, seed)
    changed = {"collection": _changed(predictions, seed), "eval": _changed(answers, seed)}
    by_id, n_videos = _chosen(run, {m.video for m in examples}, changed)
    strips = previews(decoder, list(by_id.values()), N_FRAMES, height=HEIGHT)
    skipped = _rows(run / "skipped.jsonl", Skipped)
    summary = {
        "videos": n_videos,
        "skipped": len(skipped),
        "names": len(names),
        "kept": sum(m.kept for m in matches),
        "steps": len(train),
        "backbone": _backbone(run / "config.yaml"),
    }
    page = fill(
        "report.html.j2",
        title=run.resolve().name,
        summary=summary,
        models=MODELS,
        outcome=_outcome(results),
        unlabelled=_unlabelled(predictions, matches, names) if not results else None,
        verify=f"maxi verify {shlex.quote(str(run))} -n 40",
        warnings=warnings(matches, names) if matches else [],
        examples=_shown(examples, by_id, strips, bags, run / "captions.jsonl"),
        training=_training(train, read_rows(run / "control" / "train.jsonl")),
        matching=_matching(matches),
        changes=_changes(predictions, answers, changed, by_id, strips),
        evaluation=_evaluation(results, answers),
        bags=_bags(bags),
        skipped=[*skipped[:N_SKIPPED]],
        settings=_text(run / "config.yaml"),
    )
    path = run / "report.html"
    write_text(path, [page])
    return path


def _rows(path: Path, cls: type[Row]) -> list[Row]:
    return list(iterate_jsonl(path, cls)) if path.is_file() else []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _names(path: Path) -> list[str]:
    return [line for line in _text(path).splitlines() if line.strip()]


def _backbone(path: Path) -> str:
    import yaml

    try:
        settings = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise MaxiError(f"{path}: not valid YAML; mend it or rerun `maxi adapt`") from error
    return str(settings.get("backbone", "")) if isinstance(settings, dict) else ""


def _examples(matches: Sequence[Match], seed: int) -> list[Match]:
    by_video = {m.video: m for m in matches}
    return [by_video[video] for video in shuffled(list(by_video), "report", seed)[:N_EXAMPLES]]


def _chosen(
    run: Path, wanted: set[str], changed: Mapping[str, Rows]
) -> tuple[dict[str, Video], int]:
    """The videos of these ids, and the size of the collection; one pass that keeps only what it needs."""
    wanted = wanted | {row["video"] for rows in changed.values() for row in rows}
    found: dict[str, Video] = {}
    count = 0
    for folder in (run / "eval", run):
        path, count = folder / "manifest.jsonl", 0
        for video in iterate_jsonl(path, Video) if path.is_file() else ():
            count += 1
            if video.id in wanted:
                found[video.id] = video
    return found, count


# --- the outcome


def _outcome(results: Rows) -> list[dict[str, Any]]:
    """One group per dataset, split and seed: its records by model, and what the figures allow to say."""
    groups: dict[tuple[str, ...], dict[str, Any]] = defaultdict(dict)
    for record in results:
        title = [str(record.get(key) or "") for key in ("dataset", "split")]
        groups[(*title, str(record.get("seed", "")))][record["model"]] = record
    several = len({key[2] for key in groups}) > 1
    return [
        {
            "title": " · ".join(filter(None, (*key[:2], f"seed {key[2]}" if several else ""))),
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
            f"{gain['gain']:+.1f} points ({low:+.1f} to {high:+.1f})"
            + ("; that much of a gain is not owed to the matches." if low > 0 else ".")
        )
    return said


def _verdict(gain: Mapping[str, Any], n: int) -> str:
    low, high = gain["interval"]
    figure = f"{gain['gain']:+.1f} points top-1, 95 % interval {low:+.1f} to {high:+.1f}"
    if low > 0:
        return f"The adapted model is better on these {n} clips: {figure}, which excludes 0."
    if high < 0:
        return f"The adapted model is worse on these {n} clips: {figure}, which excludes 0."
    return f"No gain can be told from noise on {n} clips: {figure}, which includes 0."


def _unlabelled(
    predictions: Rows, matches: Sequence[Match], names: Sequence[str]
) -> dict[str, Any]:
    """What can be said without labels."""
    rows = _both(predictions)
    said: dict[str, Any] = {"n": len(rows), "entropy": entropy(matches, names) if matches else None}
    if rows:
        said["agreement"] = 100 * sum(_best(r, "frozen") == _best(r, "adapted") for r in rows) / len(rows)
        for model in ("frozen", "adapted"):
            counts = Counter(_best(r, model) for r in rows)
            even = normalised_entropy(np.array([counts[name] for name in names]))
            said[model] = {"used": len(counts), "entropy": even}
    return said


def _best(row: Mapping[str, Any], model: str) -> str:
    return str(row[model][0][0])


def _both(rows: Iterable[dict[str, Any]]) -> Rows:
    return [row for row in rows if row.get("frozen") and row.get("adapted")]


# --- single videos


def _shown(
    examples: Sequence[Match],
    videos: Mapping[str, Video],
    strips: Mapping[str, list[str]],
    bags: Sequence[Bag],
    captions: Path,
) -> list[dict[str, Any]]:
    wanted = {m.video for m in examples}
    bag = {b.video: b for b in bags if b.video in wanted}
    said = (c for c in iterate_jsonl(captions, Caption)) if captions.is_file() else ()
    caption = {c.video: list(dict.fromkeys(c.captions)) for c in said if c.video in wanted}
    return [
        {
            "path": videos[m.video].path if m.video in videos else m.video,
            "frames": strips.get(m.video, []),
            "match": m,
            "captions": caption.get(m.video, []),
            "bag": [(t.text, t.source, source_kind(t.source)) for t in _texts(bag.get(m.video))],
        }
        for m in examples
    ]


def _texts(bag: Bag | None) -> Sequence[Any]:
    return bag.texts if bag else ()


def source_kind(source: str) -> str:
    """The colour of a bag's text: `phrase`, `caption` or `name` as its source begins, else `other`."""
    kind = source.partition(":")[0]
    return kind if kind in ("phrase", "caption", "name") else "other"


def _changed(rows: Rows, seed: int) -> Rows:
    """Videos to show of those whose best name changed: first one of each pair of names, the commonest pair first."""
    pairs: dict[tuple[str, str], Rows] = defaultdict(list)
    moved = {row["video"]: row for row in _both(rows) if _best(row, "frozen") != _best(row, "adapted")}
    for video in shuffled(list(moved), "changed", seed):
        row = moved[video]
        pairs[_best(row, "frozen"), _best(row, "adapted")].append(row)
    queues = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    depth = max((len(found) for _, found in queues), default=0)
    order = (found[i] for i in range(depth) for _, found in queues if i < len(found))
    return [row for row, _ in zip(order, range(N_CHANGED), strict=False)]


def _changes(
    predictions: Rows,
    answers: Rows,
    changed: Mapping[str, Rows],
    videos: Mapping[str, Video],
    strips: Mapping[str, list[str]],
) -> list[dict[str, Any]]:
    tables = (
        ("Your videos", _both(predictions), changed["collection"]),
        ("Labelled evaluation clips", _both(answers), changed["eval"]),
    )
    return [
        {
            "title": title,
            "n": len(rows),
            "n_changed": sum(_best(r, "frozen") != _best(r, "adapted") for r in rows),
            "pairs": _pairs(rows),
            "balance": _balance(rows),
            "shown": [
                {
                    "path": row.get("path", row["video"]),
                    "label": row.get("label"),
                    "frames": strips.get(row["video"], []),
                    "top": {model: row[model][:3] for model in ("frozen", "adapted")},
                }
                for row in shown
            ],
        }
        for title, rows, shown in tables
        if rows
    ]


def _pairs(rows: Rows) -> list[dict[str, Any]]:
    """The commonest changes; where labels are known, how many of them made an answer right or wrong."""
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        before, after = _best(row, "frozen"), _best(row, "adapted")
        if before != after:
            kind = {before: "broken", after: "mended"}.get(row.get("label") or "", "neither")
            found[before, after][kind] += 1
    commonest = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))[:N_PAIRS]
    return [{"frozen": a, "adapted": b, "n": c.total(), **c} for (a, b), c in commonest]


def _balance(rows: Rows) -> list[tuple[str, int, int]]:
    """The most used names and how often each model answers them."""
    before, after = (Counter(_best(row, model) for row in rows) for model in ("frozen", "adapted"))
    both = before + after
    return [(n, before[n], after[n]) for n in sorted(both, key=lambda n: (-both[n], n))[:N_NAMES]]


# --- figures and tables


def _training(train: Rows, control: Rows) -> dict[str, Any] | None:
    if not train:
        return None
    runs = {"adapted": ("adapted", train), "control": ("control", control)}
    losses = {key: (name, *_points(rows, "loss")) for key, (name, rows) in runs.items() if rows}
    steps, lrs = _points(train, "lr")
    seconds = sum(float(row["seconds"]) for row in train)
    return {
        "steps": len(train),
        "epochs": 1 + max(int(row["epoch"]) for row in train),
        "clips": sum(int(row["clips"]) for row in train),
        "seconds": seconds,
        "waited": 100 * sum(float(row["data_seconds"]) for row in train) / max(seconds, 1e-9),
        "first": train[0]["loss"],
        "last": train[-1]["loss"],
        "loss": figures.lines(losses, x="step", y="loss"),
        "lr": figures.lines({"adapted": ("lr", steps, lrs)}, x="step", y="learning rate", zero=True),
        "wait": figures.lines(
            {"adapted": ("wait", steps, [_wait(row) for row in train])},
            x="step",
            y="% of the step",
            zero=True,
        ),
    }


def _points(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    return [float(row["step"]) for row in rows], [float(row[key]) for row in rows]


def _wait(row: Mapping[str, Any]) -> float:
    return 100 * float(row["data_seconds"]) / max(float(row["seconds"]), 1e-9)


def _matching(matches: Sequence[Match]) -> dict[str, Any] | None:
    if not matches:
        return None
    kept = [m.score for m in matches if m.kept]
    threshold = min(kept) if len(kept) < len(matches) and kept else None
    commonest = Counter(m.label for m in matches).most_common()
    commonest.sort(key=lambda item: (-item[1], item[0]))
    return {
        "n": len(matches),
        "kept": len(kept),
        "threshold": threshold,
        "used": len(commonest),
        "histogram": figures.histogram(
            [m.score for m in matches], x="cosine of the match", threshold=threshold
        ),
        "names": figures.bars(dict(commonest[:N_NAMES]), x="videos matched to the name"),
    }


def _evaluation(results: Rows, answers: Rows) -> dict[str, Any] | None:
    if not results:
        return None
    first = {record["model"]: record for record in reversed(results)}
    tables = {model: first[model].get("per_class", {}) for model in MODELS if model in first}
    labels = dict.fromkeys(label for table in tables.values() for label in table)
    classes = [
        {
            "label": label,
            "n": max(table[label][1] for table in tables.values() if label in table),
            "right": {model: table.get(label, [0, 0])[0] for model, table in tables.items()},
        }
        for label in labels
    ]
    classes.sort(key=lambda c: (-abs(_delta(c)), -_delta(c), -int(c["n"]), str(c["label"])))
    return {
        "models": list(tables),
        "classes": classes,
        "confusion": {m: _confusion(answers, m) for m in ("adapted", "frozen")},
        "conditions": next(iter(first.values())).get("conditions", {}),
    }


def _delta(row: Mapping[str, Any]) -> int:
    return int(row["right"].get("adapted", 0) - row["right"].get("frozen", 0))


def _confusion(answers: Rows, model: str) -> dict[str, Any] | None:
    """A confusion table over the commonest labels; answers that are no such label share one column."""
    pairs = [(r["label"], _best(r, model)) for r in answers if r.get("label") and r.get(model)]
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
    svg = figures.heatmap(table[:, : len(columns)], labels, columns)
    return {"svg": svg, "shown": len(labels), "labels": len(counts)}


def _bags(bags: Sequence[Bag]) -> dict[str, Any] | None:
    if not bags:
        return None
    statistics = bag_statistics(bags)
    sizes = figures.histogram([len(bag.texts) for bag in bags], x="texts in the bag")
    sources: Any = statistics["sources"]
    kinds = [(source, source_kind(source), count) for source, count in sources.items()]
    return {**statistics, "sizes": sizes, "kinds": kinds}


