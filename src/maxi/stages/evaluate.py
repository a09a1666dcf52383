"""Evaluate: compare the frozen and the adapted model on the same videos, names, prompt, frames and view."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxi.files import digest, write_json, write_text
from maxi.method import evaluation, expansion
from maxi.models.text_embeddings import embed_names, embed_names_with_phrases
from maxi.models.video_clip import VideoCLIP
from maxi.randomness import shuffled
from maxi.records import Bag, Video, read_jsonl
from maxi.run import contents, require, signed
from maxi.stages.expand import expansion_context
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, embed
from maxi.stages.train import training_inputs
from maxi.text.names import distinct, words
from maxi.text.phrasebook import canonical_keys

logger = logging.getLogger(__name__)


def evaluate_run(job: Job, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Write `predictions.jsonl`, and with labelled videos in `eval/` also `results.json`; return the latter's records.

    Every model sees the same videos, names, prompt, frames and view; gains are paired with the frozen model on the same
    videos. `names` are those to choose from; without them, the labels.
    """
    run, config = job.run, job.config
    inputs = training_inputs(job, read_jsonl(run.bags, Bag))
    require(run.training, "train", inputs.key)
    models = {"frozen": None, "adapted": run.model}
    if run.control.model.is_dir():
        if inputs.made(run.control.training):
            models["shuffled"] = run.control.model
        else:
            logger.warning(
                "the control was trained on other bags or settings and is left out; "
                "run `maxi adapt` with --resume --control shuffled to train it anew"
            )
    videos = read_jsonl(run.manifest, Video)
    chosen = set(shuffled([v.id for v in videos], "sample", config.seed)[: config.eval.sample])
    labelled = read_jsonl(run.eval.manifest, Video) if run.eval.manifest.exists() else []
    evaluated = list(names or distinct(v.label for v in labelled if v.label is not None))
    if not config.keep_camel_case:
        evaluated = [words(name) for name in evaluated]
    evaluation.label_indices(labelled, evaluated)
    groups = [([v for v in videos if v.id in chosen], job.names()), (labelled, evaluated)]

    scored: list[dict[str, tuple[list[Video], np.ndarray]]] = [{}, {}]  # one of each group
    for kind, folder in models.items():
        model = job.model(folder)
        for tables, (group, group_names) in zip(scored, groups, strict=True):
            # The answers of a control on videos without labels show nothing.
            if group and (kind != "shuffled" or group is labelled):
                tables[kind] = _scores(job, model, group, group_names)
    sample, scores = _aligned(scored[0])
    rows = evaluation.predictions(sample, scores, job.names())
    made = {run.training.name: contents(run.training)}
    with signed(run.predictions, made) as file:
        write_rows(file, ({**row, "label": None} for row in rows))
    if not labelled:
        run.results.unlink(missing_ok=True)
        return []
    readable, scores = _aligned(scored[1])
    write_rows(run.eval.predictions, evaluation.predictions(readable, scores, evaluated))
    records = _records(job, readable, scores, evaluated, videos)
    with signed(run.results, made) as file:
        write_json(file, records)
    return records


def class_embeddings(job: Job, model: VideoCLIP, names: Sequence[str]) -> np.ndarray:
    """Return z_l (K, D) of the names among which videos are recognised, as `eval.name_texts` says."""
    config = job.config
    if config.eval.name_texts == "templates":
        return embed_names(model, names, config.match.templates)
    if config.eval.name_texts == "prompt":
        return embed_names(model, names, [config.eval.prompt])
    phrases = expansion.expand(
        names, config.expand.expander, config.expand.n_phrases, context=expansion_context(job)
    )
    texts = {row.name: row.texts for row in phrases}
    return embed_names_with_phrases(model, names, texts, config.eval.prompt)


def _aligned(
    tables: dict[str, tuple[list[Video], np.ndarray]],
) -> tuple[list[Video], dict[str, np.ndarray]]:
    """Return the videos that were readable for every model, and each model's scores of them, (B, K).

    `tables` holds, by model, the videos that were readable and their scores.
    """
    places = {kind: {v.id: i for i, v in enumerate(videos)} for kind, (videos, _) in tables.items()}
    first = next(iter(tables.values()))[0]
    common = [v for v in first if all(v.id in place for place in places.values())]
    return common, {
        kind: table[[places[kind][v.id] for v in common]] for kind, (_, table) in tables.items()
    }


def _scores(
    job: Job, model: VideoCLIP, videos: Sequence[Video], names: Sequence[str]
) -> tuple[list[Video], np.ndarray]:
    """Return the videos that still decode, and their cosines with all names, (B, K)."""
    z_l = class_embeddings(job, model, names)
    config = job.config.eval
    readable, z_v = embed(job, model, videos, config.n_frames, views=config.views, label="evaluate")
    return readable, z_v @ z_l.T


def _records(
    job: Job,
    videos: Sequence[Video],
    scores: dict[str, np.ndarray],
    names: Sequence[str],
    trained: Sequence[Video],
) -> list[dict[str, Any]]:
    """Return a record for each model and split: all labelled videos, those of the run's action names, and the others.

    `trained` are the unlabelled videos, which should not be among the labelled ones.
    """
    config = job.config
    labels = evaluation.label_indices(videos, names)
    known = {canonical_keys(name)[0] for name in job.names()}
    is_known = [canonical_keys(name)[0] in known for name in names]
    seen = np.array([is_known[k] for k in labels])
    splits = {"all": np.ones(len(labels), dtype=bool), "seen": seen, "unseen": ~seen}
    contents_trained = {v.content for v in trained}
    n_again = sum(v.content in contents_trained for v in videos)
    if n_again:
        logger.warning(
            "%d of %d labelled videos are also among the unlabelled ones", n_again, len(videos)
        )
    conditions = {
        "backbone": config.backbone,
        "weights": job.fingerprint,
        "prompt": config.eval.prompt,
        "name_texts": config.eval.name_texts,
        "n_frames": config.eval.n_frames,
        "views": config.eval.tell_views(),
        "normalisation": config.normalisation,
        "names": digest(list(names)),
        "n_names": len(names),
        "names_seen": sum(is_known),
        "videos": videos_key(videos),
        "videos_also_unlabelled": n_again,
        "alpha": config.train.alpha,
        "trainable": config.train.trainable,
        "settings": digest(
            config.model_dump(mode="json", exclude={"device", "workers", "deadline"})
        ),
    }
    records = []
    for split, chosen in splits.items():
        if not chosen.any() or (split != "all" and chosen.all()):
            continue
        for kind, table in scores.items():
            record = {"model": kind, "split": split, "seed": config.seed}
            record |= evaluation.evaluate(table[chosen], labels[chosen], names)
            if kind != "frozen":
                frozen = scores["frozen"][chosen]
                record["gain"] = evaluation.compare(frozen, table[chosen], labels[chosen])
            records.append({**record, "conditions": conditions})
    return records


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write dictionaries as JSON lines."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
