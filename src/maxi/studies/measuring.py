"""Measure the rows of a study on the same videos, with the same names, prompt, frames and views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from maxi.baselines.runs import scores_of
from maxi.config import Config
from maxi.files import digest
from maxi.method.evaluation import evaluate, evaluate_several
from maxi.method.metrics import average_precision, ranks
from maxi.method.shares import Signs, signs
from maxi.models.load import saved_spec
from maxi.models.saving import tensors_digest
from maxi.models.text_embeddings import embed_names
from maxi.processes import call_apart, n_cores
from maxi.progress import Progress, silent, under
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.embedding import Member, embed, embed_by, members_of
from maxi.stages.ensemble import mixtures
from maxi.stages.evaluate import class_embeddings
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, open_job
from maxi.stages.train import model_digest
from maxi.studies.collection import Collection, Split
from maxi.studies.study import Row, Scores, Seen, Study
from maxi.studies.training import TrainedRow, train_row

TOGETHER = 8  # models that are in memory at the same time
FROZEN = "frozen"


class Answered(NamedTuple):
    """What a row answered for a split: the videos that decode, the scores (V, K), and the digest of the weights."""

    row: str
    split: Split
    scores: Scores
    weights: str
    scale: float


def records_of(
    study: Study,
    collections: Sequence[Collection],
    config: Config,
    jobs: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return a record for each row and split of each collection, after training what is not trained yet.

    All rows are measured with the settings `config.eval`, so that only their models differ. With several `jobs` their
    videos are embedded in so many processes.
    """
    found = [(c, _trained(study, c, config, progress)) for c in collections]
    if jobs > 1 and config.train.trainable != "head":  # heads share one pass over the videos
        _embed_apart(study, found, config, jobs, progress)
    return [
        record
        for collection, trained in found
        for record in _records(study, collection, trained, config, progress)
    ]


def _trained(
    study: Study, collection: Collection, config: Config, progress: Progress
) -> dict[str, TrainedRow]:
    rows = {
        name: train_row(row, name, study, collection, config, progress)
        for name, row in study.rows.items()
        if not row.answers
    }
    return {FROZEN: TrainedRow(config, None, {}), **rows}


def _embed_apart(
    study: Study,
    found: Sequence[tuple[Collection, dict[str, TrainedRow]]],
    config: Config,
    jobs: int,
    progress: Progress,
) -> None:
    """Embed the measured videos by the trained models, several models a process; `_records` embeds what is left."""
    threads, of_each = max(1, n_cores() // jobs), -(-jobs // len(found))
    calls: list[tuple[Any, ...]] = []
    known = {""}
    for collection, trained in found:
        names = []
        for name, one in trained.items():
            # Two processes must not write one store, so equal weights are embedded once.
            if (weights := _weights(one, study.rows.get(name))) not in known:
                known.add(weights)
                names.append(name)
        size = min(TOGETHER, -(-len(names) // of_each))
        for start in range(0, len(names), max(1, size)):
            some = {name: trained[name] for name in names[start : start + size]}
            calls.append((threads, study, collection, config, some))
    for _ in progress(call_apart(_embed_rows, calls, jobs), len(calls), "evaluate rows"):
        pass


def _weights(trained: TrainedRow, row: Row | None) -> str:
    """Return the digest of the weights that only this row has; "" for the frozen model, mixtures and baselines."""
    if row is None or row.share is not None or trained.run is None or trained.baseline:
        return ""
    return model_digest(_model(trained.run, row))


def _model(run: Run, row: Row | None) -> Path:
    return run.control.model if row and row.control else run.model


def _embed_rows(
    n_threads: int,
    study: Study,
    collection: Collection,
    config: Config,
    trained: Mapping[str, TrainedRow],
) -> None:
    torch.set_num_threads(n_threads)
    with open_job(collection.measured.folder, config, silent) as job:
        for split in collection.splits:
            _embedded(job, study, trained, list(trained), split)


def _records(
    study: Study,
    collection: Collection,
    trained: Mapping[str, TrainedRow],
    config: Config,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    mean, told = _pool(collection, config, progress)
    with open_job(collection.measured.folder, config, under("evaluate", progress)) as job:
        for split in collection.splits:
            for answered in _answers(job, study, trained, split, mean):
                own = trained.get(answered.row, trained[FROZEN])
                yield {
                    "world": collection.world,
                    "row": answered.row,
                    "split": split.name,
                    "seed": config.seed,
                    **told._asdict(),
                    **(own.matching if answered.row in trained else {}),
                    **_figures(answered),
                    "conditions": _conditions(own.config, config, answered),
                }


def _answers(
    job: Job, study: Study, trained: Mapping[str, TrainedRow], split: Split, mean: Scores
) -> Iterator[Answered]:
    """Yield what every row answers for a split."""
    config = job.config
    models = [name for name, one in trained.items() if one.baseline is None]
    for start in range(0, len(models), TOGETHER):
        members, videos, z_v = _embedded(
            job, study, trained, models[start : start + TOGETHER], split
        )
        read = split._replace(videos=videos)
        for name, member in members.items():
            z_l = class_embeddings(job, member.ready(), split.names)
            weights = member.model.backbone.fingerprint()
            scale = float(member.model.logit_scale.exp())
            yield Answered(name, read, z_v[name] @ z_l.T, weights, scale)
            if name == FROZEN and any(row.answers for row in study.rows.values()):
                phrases = class_embeddings(job, member.ready(), split.names, "phrases")
                seen = Seen(z_v[name], z_l, phrases, mean, config.match.tau)
                for other, row in study.rows.items():
                    if row.answers:
                        yield Answered(other, read, row.answers(seen), weights, scale)
    for name, one in trained.items():
        if one.baseline is not None:
            videos, scores = scores_of(job, one.baseline, split.videos, split.names)
            weights = tensors_digest(one.baseline.state_dict())
            scale = 1 / config.train.sigma
            yield Answered(name, split._replace(videos=videos), scores, weights, scale)


def _embedded(
    job: Job, study: Study, trained: Mapping[str, TrainedRow], names: Sequence[str], split: Split
) -> tuple[dict[str, Member], list[Video], dict[str, Scores]]:
    """Load the models of some rows, and return them, the videos of a split that decode, and their z_v by each."""
    members = {name: _member(job, trained[name], study.rows.get(name)) for name in names}
    config = job.config.eval
    videos, z_v = embed_by(
        job,
        members,
        split.videos,
        config.n_frames,
        views=config.views,
        label=f"evaluate {split.name}",
    )
    return members, videos, z_v


def _member(job: Job, trained: TrainedRow, row: Row | None) -> Member:
    """Load the model of a row."""
    if trained.run is None:
        return members_of(job, {"": ""})[""]
    if row and row.share is not None:
        with open_job(trained.run.folder, trained.config, silent) as own:
            return mixtures(own, [row.share])[str(row.share)]
    return members_of(job, {"": saved_spec(trained.config.backbone, _model(trained.run, row))})[""]


def _pool(collection: Collection, config: Config, progress: Progress) -> tuple[Scores, Signs]:
    """Return the mean of the frozen model's embeddings of the unlabelled videos (D,), and what they are signs of."""
    with open_job(collection.run.folder, config, progress) as job:
        videos, model = read_jsonl(job.run.manifest, Video), job.model()
        _, z_v = embed(job, model, videos, config.match.n_frames)
        z_l = embed_names(model, job.names(), config.match.templates)
        return np.asarray(z_v.mean(0)), signs(z_v, z_l, config.match.tau)


def _figures(answered: Answered) -> dict[str, Any]:
    """Return the figures of a row on a split; `parts` are what the figure `value` is the mean of, in percent.

    These are whether each video was told right, or where videos show several actions the average precision of each
    name.
    """
    split, scores = answered.split, answered.scores
    labels = split.labels()
    if all(len(row) == 1 for row in labels):
        first = np.array([row[0] for row in labels])
        figures = evaluate(scores, first, split.names)
        right = "".join(str(int(rank == 0)) for rank in ranks(scores, first))
        return {"metric": "top-1", "value": figures["top1"], **figures, "parts": right}
    figures = evaluate_several(scores, labels, split.names, answered.scale)
    shown = np.zeros(scores.shape, dtype=bool)
    for row, of_video in zip(shown, labels, strict=True):
        row[of_video] = True
    parts = [
        round(100 * average_precision(scores[:, k], shown[:, k]), 2)
        for k in np.flatnonzero(shown.any(0))
    ]
    return {"metric": "mAP", "value": figures["map_cosine"], **figures, "parts": parts}


def _conditions(own: Config, config: Config, answered: Answered) -> dict[str, Any]:
    return {
        "weights": answered.weights,
        "settings": digest(own.model_dump(mode="json")),
        "prompt": config.eval.prompt,
        "name_texts": config.eval.name_texts,
        "n_frames": config.eval.n_frames,
        "views": config.eval.tell_views(),
        "videos": videos_key(answered.split.videos),
        "names": digest(answered.split.names),
        "version": metadata.version("maxi"),
        "date": date.today().isoformat(),
    }
