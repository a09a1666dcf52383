"""Datasets: measure models on the field's datasets, or on labelled videos of one's own, under every naming and split.

Each distinct video is decoded once for all models, and embedded once by each, whatever the number of splits, namings
and texts for names.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxi.config import Config, NameTexts
from maxi.datasets.check import located
from maxi.datasets.own import tested
from maxi.datasets.preset import Found, Preset, namings
from maxi.documents import DatasetRow, read_document
from maxi.errors import MaxiError
from maxi.files import csv_text, digest, refuse_full, write_json, write_text
from maxi.method.evaluation import compare, evaluate, evaluate_several
from maxi.method.metrics import answers
from maxi.models.load import saved_spec
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress, bar
from maxi.records import Bag, Video, read_jsonl
from maxi.run import Run, require
from maxi.stages.embedding import Member, embed_by, members_of
from maxi.stages.ensemble import mixtures
from maxi.stages.evaluate import class_embeddings
from maxi.stages.index import index_sources
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, open_job
from maxi.stages.train import training_inputs
from maxi.text.phrasebook import canonical_keys
from maxi.video.sources import Source

MEANS = ("top1", "top5", "mean_per_class", "map_softmax", "map_cosine")
PASSING = ("date", "seconds")  # conditions that do not change a figure
MOST_CONFUSED = 10  # pairs of names that a row holds


class Dataset(NamedTuple):
    """A dataset as it lies on disk: its name, the spec that names it, its preset where it has one, and its splits."""

    name: str
    spec: str
    preset: Preset | None
    found: Sequence[Found]


def evaluate_datasets(
    job: Job,
    members: Mapping[str, Member],
    specs: Sequence[str],
    out: Path,
    *,
    lists: Path | None = None,
    texts: Sequence[NameTexts] = (),
) -> list[dict[str, Any]]:
    """Measure models on datasets, add the rows to `out/results.json`, and return the new rows.

    `members` are the models by what rows call them; gains are over `frozen`. A dataset is `NAME:ROOT` with the name of
    a preset, or a folder or table of labelled videos. `texts` are what stands for a name, by default `eval.name_texts`;
    each has its rows. A row that is in the file under the same conditions is not added once more. Raises MaxiError when
    lists or all videos of a dataset are missing.
    """
    rows: list[dict[str, Any]] = []
    earlier(out)  # a file that cannot be added to is told before hours of work
    for spec in specs:
        name, preset, found = located(spec, lists)
        dataset = Dataset(name, spec, preset, tested(found))
        rows += measure(job, members, dataset, out, texts=texts)
        rows += means_over_splits([row for row in rows if row["dataset"] == name])
        add(out, rows)
    return rows


def measure(
    job: Job,
    members: Mapping[str, Member],
    dataset: Dataset,
    out: Path,
    *,
    texts: Sequence[NameTexts] = (),
) -> list[dict[str, Any]]:
    """Return the rows of one dataset: for each split, form of the names, kind of texts for names, and model.

    The list of its videos and their features are kept in `out`, and tables of what is taken for what are written there.
    """
    began = time.monotonic()
    config, preset = job.config.eval, dataset.preset
    folder = Run(out / f"{re.sub(r'[^A-Za-z0-9]+', '_', dataset.name)}-{digest(dataset.spec)[:6]}")
    paths = dict.fromkeys(path for part in dataset.found for path, _ in part.videos)
    videos = index_sources(job, [Source(path) for path in paths], folder)
    readable, z_v = embed_by(
        job, members, videos, config.n_frames, views=config.views, label="evaluate"
    )
    place_of = {video.path: place for place, video in enumerate(readable)}
    kinds: Sequence[NameTexts] = texts or (config.name_texts,)
    parts = [(part, namings(part.split, preset)) for part in dataset.found]
    lists_of_names = {tuple(names) for _, forms in parts for names in forms.values()}
    z_l = {}
    conditions: dict[str, dict[str, Any]] = {}
    for kind, member in members.items():
        model = member.ready()
        conditions[kind] = {**_of_model(model, member.spec), **member.about}
        for of, names in product(kinds, lists_of_names):
            z_l[kind, of, names] = class_embeddings(job, model, names, of)
    rows: list[dict[str, Any]] = []
    for part, forms in parts:
        pairs = [(place_of.get(str(path.absolute())), item.labels) for path, item in part.videos]
        kept = [place for place, _ in pairs if place is not None]
        if not kept:
            raise MaxiError(
                f"{dataset.spec}: no video of split {part.split.name} can be read; see {folder.skipped}"
            )
        split = _Split(
            [readable[place] for place in kept],
            [labels for place, labels in pairs if place is not None],
            [item.labels for item in part.split.items],
            several=bool(preset and preset.several_labels),
        )
        for (form, form_names), of in product(forms.items(), kinds):
            names = tuple(form_names)
            scores = {kind: z_v[kind][kept] @ z_l[kind, of, names].T for kind in members}
            head = {"dataset": dataset.name, "split": part.split.name, "names": form, "texts": of}
            for row in _rows_of(job, split, names, scores, conditions):
                row["conditions"] |= _conditions(job, names, of)
                row["conditions"] |= {"distinct_videos": len(videos)}
                rows.append({**head, **row})
    for row in rows:
        row["conditions"]["date"] = date.today().isoformat()
        row["conditions"]["seconds"] = round(time.monotonic() - began, 1)
        if confusion := row.pop("confusion", None):
            path = folder.folder / f"confusion-{_key(row)}.csv"
            write_text(path, [csv_text([("label", "answer", "videos"), *confusion])])
            row["confusion"] = path.relative_to(out).as_posix()
            row["confused"] = [pair for pair in confusion if pair[0] != pair[1]][:MOST_CONFUSED]
    return rows


class _Split(NamedTuple):
    """The videos of a split that were read and their labels, and the labels of all that are listed."""

    videos: Sequence[Video]
    labels: Sequence[Sequence[int]]
    listed: Sequence[Sequence[int]]
    several: bool


def _rows_of(
    job: Job,
    split: _Split,
    names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    conditions: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each model for the videos of a split, and apart for names that a run has and has not.

    `scores` (V, K) and `conditions` are by model.
    """
    run_names = job.names() if job.run.actions.is_file() else []
    known = {canonical_keys(name)[0] for name in run_names}
    is_name_known = np.array([canonical_keys(name)[0] in known for name in names])
    is_known, is_listed_known = (
        is_name_known[[first for first, *_ in rows]] for rows in (split.labels, split.listed)
    )
    parts = {"all": (np.ones(len(split.labels), dtype=bool), len(split.listed))}
    if is_known.any() and not is_known.all() and not split.several:
        n_seen = int(is_listed_known.sum())
        parts |= {"seen": (is_known, n_seen), "unseen": (~is_known, len(split.listed) - n_seen)}
    for part, (chosen, n_listed) in parts.items():
        videos = [video for video, is_in in zip(split.videos, chosen, strict=True) if is_in]
        labels = [label for label, is_in in zip(split.labels, chosen, strict=True) if is_in]
        first_labels = np.array([first for first, *_ in labels])
        for kind, table in scores.items():
            own, of_model = table[chosen], conditions[kind]
            if split.several:
                figures = evaluate_several(own, labels, names, of_model["scale"])
            else:
                figures = evaluate(own, first_labels, names)
                if kind != "frozen" and "frozen" in scores:
                    figures["gain"] = compare(scores["frozen"][chosen], own, first_labels)
                if part == "all":
                    figures["confusion"] = _confusion(own, first_labels, names)
            of = {"part": part, "model": kind, "missing": n_listed - len(videos)}
            yield {**of, **figures, "conditions": {**of_model, "videos": videos_key(videos)}}


def _confusion(
    scores: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Return how many videos of a label are taken for a name, most first, without pairs that do not occur."""
    pairs = Counter(zip(labels.tolist(), answers(scores, labels).tolist(), strict=True))
    order = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
    return [(names[label], names[answer], pairs[label, answer]) for label, answer in order]


def means_over_splits(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each model, naming and kind of texts with the mean and the deviation over several splits."""
    groups = grouped(rows, ("dataset", "names", "part", "texts", "model"))
    return [
        mean_of(group, {"split": f"mean of {len(group)}"}) for group in groups if len(group) > 1
    ]


def grouped(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[str]
) -> list[list[Mapping[str, Any]]]:
    """Return the rows that agree in these fields together, in the order in which they come first."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return list(groups.values())


def mean_of(group: Sequence[Mapping[str, Any]], replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the means of several, and their standard deviations (n - 1), with some fields `replaced`."""
    fields = ("dataset", "split", "names", "texts", "part", "model")
    mean: dict[str, Any] = {field: group[0][field] for field in fields} | dict(replaced)
    mean["n"] = sum(row["n"] for row in group)
    mean["missing"] = sum(row["missing"] for row in group)
    for figure in MEANS:
        if figure in group[0]:
            values = [row[figure] for row in group]
            mean[figure] = round(float(np.mean(values)), 2)
            mean[f"{figure}_std"] = round(float(np.std(values, ddof=1)), 2)
    conditions = dict(group[0]["conditions"])
    for field in ("videos", "names", "weights", "trained_on"):
        if field in conditions:
            of_rows = [row["conditions"][field] for row in group]
            same = all(value == of_rows[0] for value in of_rows)
            conditions[field] = of_rows[0] if same else digest(of_rows)
    return {**mean, "conditions": conditions}


def _of_model(model: VideoCLIP, spec: str) -> dict[str, Any]:
    """Return the conditions that belong to a model."""
    backbone = model.backbone
    return {
        "model": spec,
        "weights": backbone.fingerprint(),
        "scale": float(model.logit_scale.exp()),
        "preprocessing": {
            "resize_to": backbone.resize_to,
            "image_size": backbone.image_size,
            "mean": list(backbone.mean),
            "std": list(backbone.std),
        },
        "device": str(model.device),
    }


def _conditions(job: Job, names: Sequence[str], texts: NameTexts) -> dict[str, Any]:
    """Return the conditions that all models and parts of a split share."""
    config = job.config
    return {
        "prompt": config.eval.prompt,
        "name_texts": texts,
        "n_frames": config.eval.n_frames,
        "views": config.eval.tell_views(),
        "names": digest(list(names)),
        "seed": config.seed,
        "versions": {name: metadata.version(name) for name in ("maxi", "torch", "av")},
    }


def add(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to `out/results.json`, but for those that are there under the same conditions."""
    old = earlier(out)
    known = {_key(row) for row in old}
    new = [row for row in rows if _key(row) not in known]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", [*old, *new])


def earlier(out: Path) -> list[dict[str, Any]]:
    """Return the rows of earlier evaluations. Raises MaxiError when their file is malformed."""
    path = out / "results.json"
    rows: list[dict[str, Any]] = read_document(path, list[DatasetRow]) if path.is_file() else []
    return rows


def _key(row: Mapping[str, Any]) -> str:
    conditions = {k: v for k, v in row["conditions"].items() if k not in PASSING}
    fields = ("dataset", "split", "names", "part", "texts", "model")
    return digest([row.get(field, "prompt") for field in fields], conditions)


def models_of_run(job: Job, alphas: Sequence[float] = ()) -> dict[str, Member]:
    """Return the frozen and the adapted model of a run, and the mixtures of their weights with the shares `alphas`.

    Raises MaxiError when the run has no model that is up to date, or for mixtures no checkpoint.
    """
    run = job.run
    require(run.training, "train", training_inputs(job, read_jsonl(run.bags, Bag)).key)
    specs = {"frozen": job.config.backbone, "adapted": saved_spec(job.config.backbone, run.model)}
    members = members_of(job, specs, {"adapted": {"alpha": job.config.train.alpha}})
    if not alphas:
        return members
    return members | {f"alpha {alpha}": member for alpha, member in mixtures(job, alphas).items()}


def evaluate_model(
    spec: str,
    config: Config,
    specs: Sequence[str],
    out: Path,
    *,
    lists: Path | None = None,
    texts: Sequence[NameTexts] = (),
    progress: Progress = bar,
) -> list[dict[str, Any]]:
    """Measure any model on datasets without a run; see `evaluate_datasets`.

    Raises MaxiError when `out` holds files, but no results of earlier evaluations.
    """
    if not (out / "results.json").is_file():
        refuse_full(out)
    out.mkdir(parents=True, exist_ok=True)
    with open_job(out, config, progress) as job:
        job.lock()
        members = members_of(job, {"model": spec})
        return evaluate_datasets(job, members, specs, out, lists=lists, texts=texts)
