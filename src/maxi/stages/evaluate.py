"""Evaluate: compare the frozen and the adapted model on the same videos, names, prompt, frames and view."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxi.config import NameTexts
from maxi.files import digest, write_json, write_text
from maxi.method import evaluation, expansion
from maxi.models.load import saved_spec
from maxi.models.text_embeddings import embed_names, embed_names_with_phrases
from maxi.models.video_clip import VideoCLIP
from maxi.randomness import shuffled
from maxi.records import Bag, Video, read_jsonl
from maxi.run import contents, require, signed
from maxi.stages.embedding import Member, embed_by, members_of
from maxi.stages.expand import expansion_context
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job
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
    specs = {"frozen": "", "adapted": saved_spec(config.backbone, run.model)}
    if run.control.model.is_dir():
        if inputs.made(run.control.training):
            specs["shuffled"] = saved_spec(config.backbone, run.control.model)
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

    members = members_of(job, specs)
    # The answers of a control on videos without labels show nothing.
    on_sample = {kind: member for kind, member in members.items() if kind != "shuffled"}
    sample, scores = _scores(job, on_sample, [v for v in videos if v.id in chosen], job.names())
    rows = evaluation.predictions(sample, scores, job.names())
    made = {run.training.name: contents(run.training)}
    with signed(run.predictions, made) as file:
        write_rows(file, ({**row, "label": None} for row in rows))
    if not labelled:
        run.results.unlink(missing_ok=True)
        return []
    readable, scores = _scores(job, members, labelled, evaluated)
    write_rows(run.eval.predictions, evaluation.predictions(readable, scores, evaluated))
    records = _records(job, readable, scores, evaluated, videos)
    with signed(run.results, made) as file:
        write_json(file, records)
    return records


def class_embeddings(
    job: Job, model: VideoCLIP, names: Sequence[str], texts: NameTexts | None = None
) -> np.ndarray:
    """Return z_l (K, D) of the names among which videos are recognised; `texts` are by default `eval.name_texts`."""
    config = job.config
    texts = texts or config.eval.name_texts
    if texts == "templates":
        return embed_names(model, names, config.match.templates)
    if texts == "prompt":
        return embed_names(model, names, [config.eval.prompt])
    phrases = expansion.expand(
        names, config.expand.expander, config.expand.n_phrases, context=expansion_context(job)
    )
    by_name = {row.name: row.texts for row in phrases}
    return embed_names_with_phrases(model, names, by_name, config.eval.prompt)


def _scores(
    job: Job, members: Mapping[str, Member], videos: Sequence[Video], names: Sequence[str]
) -> tuple[list[Video], dict[str, np.ndarray]]:
    """Return the videos that still decode, and by model their cosines with all names, (V, K)."""
    config = job.config.eval
    readable, z_v = embed_by(
        job, members, videos, config.n_frames, views=config.views, label="evaluate"
    )
    return readable, {
        kind: z_v[kind] @ class_embeddings(job, member.ready(), names).T
        for kind, member in members.items()
    }


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
        "resize_to": config.resize_to,
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
