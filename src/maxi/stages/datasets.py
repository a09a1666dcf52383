"""Datasets: measure models on the field's datasets, or on labelled videos of one's own, under every naming and split.

Each distinct video is decoded and embedded once for each model, whatever the number of splits and namings.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxi.config import Config
from maxi.datasets.check import located
from maxi.datasets.preset import namings
from maxi.documents import DatasetRow, read_document
from maxi.errors import MaxiError
from maxi.files import digest, refuse_full, write_json
from maxi.method.evaluation import compare, evaluate, evaluate_several
from maxi.method.metrics import with_interval
from maxi.models.load import saved_spec
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress, bar
from maxi.records import Bag, Video, read_jsonl
from maxi.run import Run, require
from maxi.stages.evaluate import class_embeddings
from maxi.stages.index import index_sources
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, embed, open_job
from maxi.stages.train import training_inputs
from maxi.text.phrasebook import canonical_keys
from maxi.video.sources import Source

MANY_MISSING = 0.01  # a larger share of videos that are not measured is told beside the figures
MEANS = ("top1", "top5", "mean_per_class", "map_softmax", "map_cosine")
PASSING = ("date", "seconds")  # conditions that do not change a figure


def evaluate_datasets(
    job: Job,
    models: Mapping[str, str],
    specs: Sequence[str],
    out: Path,
    *,
    lists: Path | None = None,
    splits: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure models on datasets, add the rows to `out/results.json`, and return the new rows.

    `models` are specs by what rows call them; gains are over `frozen`. A dataset is `NAME:ROOT` with the name of a
    preset, or a folder or table of labelled videos. A row that is in the file under the same conditions is not added
    once more. Raises MaxiError when lists or all videos of a dataset are missing.
    """
    rows: list[dict[str, Any]] = []
    _earlier(out / "results.json")  # a file that cannot be added to is told before hours of work
    for spec in specs:
        rows += _evaluate(job, models, spec, out, lists, splits)
        _add(out / "results.json", rows)
    return rows


class Embedded(NamedTuple):
    """What one model makes of a dataset: z_v (D,) by path, z_l (K, D) by names, and the model's conditions."""

    z_v: dict[str, np.ndarray]
    z_l: dict[tuple[str, ...], np.ndarray]
    conditions: dict[str, Any]

    def scores(self, videos: Sequence[Video], names: Sequence[str]) -> np.ndarray:
        """Return the cosines of videos and names, (V, K)."""
        cosines: np.ndarray = (
            np.stack([self.z_v[v.path] for v in videos]) @ self.z_l[tuple(names)].T
        )
        return cosines


def _evaluate(
    job: Job,
    models: Mapping[str, str],
    spec: str,
    out: Path,
    lists: Path | None,
    splits: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """Return the rows of one dataset: for each model, split and naming, and their means where there are more splits."""
    began = time.monotonic()
    name, preset, all_found = located(spec, lists)
    found = [part for part in all_found if splits is None or part.split.name in splits]
    folder = Run(out / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}-{digest(spec)[:6]}")
    paths = dict.fromkeys(path for part in found for path, _ in part.videos)
    videos = index_sources(job, [Source(path) for path in paths], folder)
    forms_of_splits = [namings(part.split, preset) for part in found]
    texts = {tuple(names) for forms in forms_of_splits for names in forms.values()}
    embedded = {kind: _embed(job, model_spec, videos, texts) for kind, model_spec in models.items()}
    common = set.intersection(*(set(one.z_v) for one in embedded.values()))
    by_path = {video.path: video for video in videos if video.path in common}
    shared = {"date": date.today().isoformat(), "distinct_videos": len(videos)}
    rows: list[dict[str, Any]] = []
    for part, forms in zip(found, forms_of_splits, strict=True):
        pairs = [(by_path.get(str(path.absolute())), item) for path, item in part.videos]
        kept = [(video, item.labels) for video, item in pairs if video]
        if not kept:
            raise MaxiError(
                f"{spec}: no video of split {part.split.name} can be read; see {folder.skipped}"
            )
        listed = [item.labels for item in part.split.items]
        for form, names in forms.items():
            several = bool(preset and preset.several_labels)
            for row in _rows_of(job, embedded, kept, listed, names, several=several):
                rows.append({"dataset": name, "split": part.split.name, "names": form, **row})
                rows[-1]["conditions"] |= shared
    rows += _means(rows)
    for row in rows:
        row["conditions"]["seconds"] = round(time.monotonic() - began, 1)
    return rows


def _embed(
    job: Job, spec: str, videos: Sequence[Video], texts: Iterable[tuple[str, ...]]
) -> Embedded:
    """Embed all videos, and all lists of names, by one model."""
    model = job.model_of(spec)
    config = job.config.eval
    readable, z_v = embed(job, model, videos, config.n_frames, views=config.views, label="evaluate")
    return Embedded(
        {video.path: z for video, z in zip(readable, z_v, strict=True)},
        {names: class_embeddings(job, model, names) for names in texts},
        _of_model(model, spec),
    )


def _rows_of(
    job: Job,
    embedded: Mapping[str, Embedded],
    kept: Sequence[tuple[Video, Sequence[int]]],
    listed: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    several: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each model for the videos of a split, and apart for names that a run has and has not.

    `kept` are the videos that could be read, with their labels; `listed` are the labels of all.
    """
    videos, labels = [video for video, _ in kept], [labels for _, labels in kept]
    run_names = job.names() if job.run.actions.is_file() else []
    known = {canonical_keys(name)[0] for name in run_names}
    is_name_known = np.array([canonical_keys(name)[0] in known for name in names])
    is_known, is_listed_known = (
        is_name_known[[first for first, *_ in rows]] for rows in (labels, listed)
    )
    parts = {"all": (np.ones(len(labels), dtype=bool), len(listed))}
    if is_known.any() and not is_known.all() and not several:
        n_seen = int(is_listed_known.sum())
        parts |= {"seen": (is_known, n_seen), "unseen": (~is_known, len(listed) - n_seen)}
    scores = {kind: one.scores(videos, names) for kind, one in embedded.items()}
    for part, (chosen, n_listed) in parts.items():
        own_videos = [video for video, is_in in zip(videos, chosen, strict=True) if is_in]
        own_labels = [label for label, is_in in zip(labels, chosen, strict=True) if is_in]
        first_labels = np.array([first for first, *_ in own_labels])
        for kind, one in embedded.items():
            own = scores[kind][chosen]
            if several:
                figures = evaluate_several(own, own_labels, names, one.conditions["scale"])
            else:
                figures = evaluate(own, first_labels, names)
                if kind != "frozen" and "frozen" in scores:
                    figures["gain"] = compare(scores["frozen"][chosen], own, first_labels)
            conditions = _conditions(job, own_videos, names) | one.conditions
            of = {"part": part, "model": kind, "missing": n_listed - len(own_videos)}
            yield {**of, **figures, "conditions": conditions}


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each model and naming with the mean and the standard deviation (n - 1) over several splits."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["names"], row["part"], row["model"]), []).append(row)
    means = []
    for (form, part, kind), group in groups.items():
        if len(group) < 2:
            continue
        mean: dict[str, Any] = {
            "dataset": group[0]["dataset"],
            "split": f"mean of {len(group)}",
            "names": form,
            "part": part,
            "model": kind,
            "n": sum(row["n"] for row in group),
            "missing": sum(row["missing"] for row in group),
        }
        for figure in MEANS:
            if figure in group[0]:
                values = [row[figure] for row in group]
                mean[figure] = round(float(np.mean(values)), 2)
                mean[f"{figure}_std"] = round(float(np.std(values, ddof=1)), 2)
        conditions = dict(group[0]["conditions"])
        conditions["videos"] = digest([row["conditions"]["videos"] for row in group])
        conditions["names"] = digest([row["conditions"]["names"] for row in group])
        means.append({**mean, "conditions": conditions})
    return means


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


def _conditions(job: Job, videos: Sequence[Video], names: Sequence[str]) -> dict[str, Any]:
    """Return the conditions that all models share for these videos and names."""
    config = job.config
    return {
        "prompt": config.eval.prompt,
        "name_texts": config.eval.name_texts,
        "n_frames": config.eval.n_frames,
        "views": config.eval.tell_views(),
        "videos": videos_key(videos),
        "names": digest(list(names)),
        "seed": config.seed,
        "versions": {name: metadata.version(name) for name in ("maxi", "torch", "av")},
    }


def _add(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a file of results, but for those that are there under the same conditions."""
    old = _earlier(path)
    known = {_key(row) for row in old}
    new = [row for row in rows if _key(row) not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [*old, *new])


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Return the rows of earlier evaluations. Raises MaxiError when the file is malformed."""
    rows: list[dict[str, Any]] = read_document(path, list[DatasetRow]) if path.is_file() else []
    return rows


def _key(row: Mapping[str, Any]) -> str:
    conditions = {k: v for k, v in row["conditions"].items() if k not in PASSING}
    return digest(
        [row[name] for name in ("dataset", "split", "names", "part", "model")], conditions
    )


def models_of_run(job: Job) -> dict[str, str]:
    """Return the frozen and the adapted model of a run. Raises MaxiError when it has no model that is up to date."""
    run = job.run
    require(run.training, "train", training_inputs(job, read_jsonl(run.bags, Bag)).key)
    return {"frozen": job.config.backbone, "adapted": saved_spec(job.config.backbone, run.model)}


def evaluate_model(
    spec: str,
    config: Config,
    specs: Sequence[str],
    out: Path,
    *,
    lists: Path | None = None,
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
        return evaluate_datasets(job, {"model": spec}, specs, out, lists=lists)


def table_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield rows as lines of a table for the terminal; a share of missing videos over 1 % is told in the same line."""
    head = f"{'dataset':10} {'split':9} {'names':10} {'part':7} {'model':9} {'n':>6}"
    yield f"{head} {'top-1':>12} {'top-5':>12} {'per class':>10}"
    for row in rows:
        place = f"{row['dataset']:10} {row['split']:9} {row['names']:10} {row['part']:7} {row['model']:9}"
        yield f"{place} {row['n']:6,} {_figures(row)}"
    for name, n in {row["dataset"]: row["conditions"]["distinct_videos"] for row in rows}.items():
        yield f"{name}: {n:,} distinct videos"


def _figures(row: Mapping[str, Any]) -> str:
    if "map_softmax" in row:
        text = f"mAP {row['map_softmax']:.2f} (softmax), {row['map_cosine']:.2f} (cosine)"
    else:
        text = (
            f"{_figure(row, 'top1'):>12} {_figure(row, 'top5'):>12} {row['mean_per_class']:10.1f}"
        )
    if gain := row.get("gain", {}).get("top1"):
        text += f"   top-1 {with_interval(gain['gain'], gain['interval'])}"
    listed = row["n"] + row["missing"]
    if row["missing"] > MANY_MISSING * listed:
        text += f"   {row['missing']:,} of {listed:,} videos missing"
    return text


def _figure(row: Mapping[str, Any], name: str) -> str:
    std = f" ± {row[f'{name}_std']:.1f}" if f"{name}_std" in row else ""
    return f"{row[name]:.1f}{std}"
