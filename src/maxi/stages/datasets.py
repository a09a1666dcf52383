"""Datasets: measure models on the field's datasets, or on labelled videos of one's own, under every naming and split.

Each distinct video is decoded and embedded once for each model, whatever the number of splits and namings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from maxi.config import Config
from maxi.datasets.check import located
from maxi.datasets.preset import Found, Preset, namings
from maxi.documents import DatasetRow, read_document
from maxi.errors import MaxiError
from maxi.files import digest, refuse_full, write_json
from maxi.method import evaluation
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
from maxi.video.sources import Source

logger = logging.getLogger(__name__)

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
) -> list[dict[str, Any]]:
    """Measure models on datasets, add the rows to `out/results.json`, and return the new rows.

    `models` are specs by what rows call them; gains are over `frozen`. A dataset is `NAME:ROOT` with the name of a
    preset, or a folder or table of labelled videos. A row that is in the file under the same conditions is not added
    once more. Raises MaxiError when lists or all videos of a dataset are missing.
    """
    rows: list[dict[str, Any]] = []
    for spec in specs:
        rows += _evaluate(job, models, spec, out, lists)
        _add(out / "results.json", rows)
    return rows


def _evaluate(
    job: Job, models: Mapping[str, str], spec: str, out: Path, lists: Path | None
) -> list[dict[str, Any]]:
    """Return the rows of one dataset: for each model, split and naming, and their means where there are more splits."""
    began = time.monotonic()
    name, preset, found = located(spec, lists)
    paths = dict.fromkeys(path for part in found for path, _ in part.videos)
    folder = Run(out / digest(name, str(spec)))
    videos = index_sources(job, [Source(path) for path in paths], folder)
    z_v: dict[str, dict[str, np.ndarray]] = {}
    z_l: dict[str, dict[tuple[str, ...], np.ndarray]] = {}
    loaded: dict[str, dict[str, Any]] = {}
    all_namings = [namings(part.split, preset) for part in found]
    for kind, model_spec in models.items():
        model = job.model_of(model_spec)
        readable, embeddings = embed(job, model, videos, job.config.eval.n_frames, label="evaluate")
        z_v[kind] = {v.path: z for v, z in zip(readable, embeddings, strict=True)}
        texts = {tuple(names) for forms in all_namings for names in forms.values()}
        z_l[kind] = {names: class_embeddings(job, model, names) for names in texts}
        loaded[kind] = _of_model(job, model, model_spec)
    common = set.intersection(*(set(table) for table in z_v.values()))
    by_path = {video.path: video for video in videos if video.path in common}
    logger.info("%s: %d distinct videos were decoded for %d rows", name, len(videos), len(paths))
    rows: list[dict[str, Any]] = []
    for part, forms in zip(found, all_namings, strict=True):
        kept = [(by_path[str(p)], item) for p, item in _absolute(part) if str(p) in by_path]
        if not kept:
            raise MaxiError(
                f"{spec}: no video of split {part.split.name} can be read; see {folder.skipped}"
            )
        for form, names in forms.items():
            labels = [item.labels for _, item in kept]
            scores = {
                kind: np.stack([table[v.path] for v, _ in kept]) @ z_l[kind][tuple(names)].T
                for kind, table in z_v.items()
            }
            for kind in models:
                measured = _measure(preset, scores, kind, labels, names, loaded[kind])
                conditions = _conditions(job, [v for v, _ in kept], names) | loaded[kind]
                conditions |= {"date": date.today().isoformat(), "distinct_videos": len(videos)}
                of = {"dataset": name, "split": part.split.name, "names": form, "model": kind}
                missing = len(part.split.items) - len(kept)
                rows.append({**of, **measured, "missing": missing, "conditions": conditions})
    rows += _means(rows)
    for row in rows:
        row["conditions"]["seconds"] = round(time.monotonic() - began, 1)
    return rows


def _absolute(part: Found) -> Iterator[tuple[Path, Any]]:
    return ((path.absolute(), item) for path, item in part.videos)


def _measure(
    preset: Preset | None,
    scores: Mapping[str, np.ndarray],
    kind: str,
    labels: Sequence[Sequence[int]],
    names: Sequence[str],
    loaded: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the figures of one model, with its gain over `frozen` where that is measured too."""
    if preset and preset.several_labels:
        return evaluation.evaluate_several(scores[kind], labels, names, loaded["scale"])
    single = np.array([label for label, *_ in labels])
    measured = evaluation.evaluate(scores[kind], single, names)
    if kind != "frozen" and "frozen" in scores:
        measured["gain"] = evaluation.compare(scores["frozen"], scores[kind], single)
    return measured


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each model and naming with the mean and the standard deviation (n - 1) over several splits."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["names"], row["model"]), []).append(row)
    means = []
    for (form, kind), group in groups.items():
        if len(group) < 2:
            continue
        mean: dict[str, Any] = {
            "dataset": group[0]["dataset"],
            "split": f"mean of {len(group)}",
            "names": form,
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


def _of_model(job: Job, model: VideoCLIP, spec: str) -> dict[str, Any]:
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
        "views": "1 clip x 1 centre crop",
        "videos": videos_key(videos),
        "names": digest(list(names)),
        "seed": config.seed,
        "versions": {name: metadata.version(name) for name in ("maxi", "torch", "av")},
    }


def _add(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a file of results, but for those that are there under the same conditions."""
    old = read_document(path, list[DatasetRow]) if path.is_file() else []
    known = {_key(row) for row in old}
    new = [row for row in rows if _key(row) not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [*old, *new])


def _key(row: Mapping[str, Any]) -> str:
    conditions = {k: v for k, v in row["conditions"].items() if k not in PASSING}
    return digest([row[name] for name in ("dataset", "split", "names", "model")], conditions)


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
    yield f"{'dataset':10} {'split':9} {'names':10} {'model':9} {'n':>6} {'top-1':>12} {'top-5':>12} {'per class':>10}"
    for row in rows:
        figures = [_figure(row, "top1"), _figure(row, "top5")]
        last = f"{row['mean_per_class']:10.1f}" if "mean_per_class" in row else ""
        if "map_softmax" in row:
            figures = [f"mAP {row['map_softmax']:.2f} (softmax), {row['map_cosine']:.2f} (cosine)"]
        if gain := row.get("gain", {}).get("top1"):
            last += f"   top-1 {with_interval(gain['gain'], gain['interval'])}"
        if row["missing"] > MANY_MISSING * (row["n"] + row["missing"]):
            last += f"   {row['missing']:,} of {row['n'] + row['missing']:,} videos missing"
        yield (
            f"{row['dataset']:10} {row['split']:9} {row['names']:10} {row['model']:9} {row['n']:6,} "
            f"{' '.join(f'{figure:>12}' for figure in figures)} {last}"
        )


def _figure(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    std = f" ± {row[f'{name}_std']:.1f}" if f"{name}_std" in row else ""
    return f"{row[name]:.1f}{std}"
