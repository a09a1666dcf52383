"""The engine of all studies: train the rows of a study on a collection, and measure them on the same videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from importlib import metadata
from itertools import islice
from typing import Any, NamedTuple

from maxi.config import Config
from maxi.documents import Record, read_document
from maxi.errors import MaxiError
from maxi.files import digest
from maxi.method.evaluation import evaluate, label_indices
from maxi.method.metrics import ranks
from maxi.models.load import saved_spec
from maxi.progress import Progress, under
from maxi.records import Match, read_jsonl
from maxi.run import meta_path, write_signed
from maxi.settings import changed
from maxi.stages.bag import bag_run
from maxi.stages.branch import branch
from maxi.stages.caption import caption_run
from maxi.stages.embedding import embed_by, members_of
from maxi.stages.evaluate import class_embeddings
from maxi.stages.expand import expand_run
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from maxi.studies.collection import Collection, Split
from maxi.studies.study import Row, Study

TOGETHER = 8  # models that are in memory at the same time


class Trained(NamedTuple):
    """A row that was trained: its settings, and the spec of its model."""

    config: Config
    spec: str


def records_of(
    study: Study, collection: Collection, config: Config, progress: Progress
) -> list[dict[str, Any]]:
    """Train what is not trained yet, and return a record for each row and split.

    All rows are measured with the settings `config.eval`, so that only their models differ. Equal rows, also of other
    studies on the same collection, are trained once. Raises MaxiError when a row needs true names that nobody knows.
    """
    frozen = Trained(config, config.backbone)
    trained = {"frozen": frozen} | {
        name: _train(row, name, collection, config, progress) for name, row in study.rows.items()
    }
    records: list[dict[str, Any]] = []
    with open_job(collection.run.folder, config, under("evaluate", progress)) as job:
        names = iter(trained)
        while some := list(islice(names, TOGETHER)):
            group = {name: trained[name] for name in some}
            for split in collection.splits:
                records += _measure(job, group, split)
    return records


def _train(
    row: Row, name: str, collection: Collection, config: Config, progress: Progress
) -> Trained:
    """Train a row in a run of its own beside the collection's, and return its model."""
    main = collection.run
    own = changed(config, row.settings)
    kind = row.matches.__name__ if row.matches else ""
    if kind and not collection.truth:
        raise MaxiError(
            f"the row {name!r} needs the true names of the videos; give them in a csv with path and label"
        )
    key = digest(own.model_dump(mode="json"), kind)
    run = branch(main, main.folder.parent / "rows" / key, config, own)
    with open_job(run.folder, own, under(name, progress)) as job:
        job.save_settings()
        if row.matches:
            matches = read_jsonl(main.matches, Match)
            replaced = row.matches(matches, collection.truth, job.names(), config.seed)
            inputs = read_document(meta_path(main.matches), Record)["inputs"]
            write_signed(run.matches, replaced, inputs)
        else:
            match_run(job)
        for stage in (expand_run, caption_run, bag_run):
            stage(job)
        train_run(job, control=row.control)
    folder = run.control.model if row.control else run.model
    return Trained(own, saved_spec(own.backbone, folder))


def _measure(job: Job, trained: Mapping[str, Trained], split: Split) -> Iterator[dict[str, Any]]:
    """Yield a record for each row on the videos of a split; `right` says of each video, as 0 or 1, who was right."""
    config = job.config
    members = members_of(job, {name: one.spec for name, one in trained.items()})
    videos, z_v = embed_by(
        job, members, split.videos, config.eval.n_frames, views=config.eval.views, label=split.name
    )
    labels = label_indices(videos, split.names)
    for name, member in members.items():
        z_l = class_embeddings(job, member.ready(), split.names)
        scores = z_v[name] @ z_l.T
        figures = evaluate(scores, labels, split.names)
        conditions = {
            "weights": member.model.backbone.fingerprint(),
            "settings": digest(trained[name].config.model_dump(mode="json")),
            "prompt": config.eval.prompt,
            "name_texts": config.eval.name_texts,
            "n_frames": config.eval.n_frames,
            "views": config.eval.tell_views(),
            "videos": videos_key(videos),
            "names": digest(split.names),
            "version": metadata.version("maxi"),
            "date": date.today().isoformat(),
        }
        right = "".join(str(int(rank == 0)) for rank in ranks(scores, labels))
        yield {
            "row": name,
            "split": split.name,
            "seed": config.seed,
            **figures,
            "right": right,
            "conditions": conditions,
        }
