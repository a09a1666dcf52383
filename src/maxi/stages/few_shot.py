"""Few-shot: train on K labelled videos of each name of a dataset, and measure on its test split (Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxi.config import Config
from maxi.datasets.check import located
from maxi.datasets.files import ListFolder, VideoTree
from maxi.datasets.preset import Preset
from maxi.errors import MaxiError
from maxi.files import refuse_full
from maxi.models.load import saved_spec
from maxi.progress import Progress, bar
from maxi.run import Run
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.datasets import evaluate_datasets
from maxi.stages.expand import expand_run
from maxi.stages.index import index_sources, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from maxi.video.sources import Source


def few_shot(
    config: Config,
    spec: str,
    shots: Sequence[int],
    out: Path,
    *,
    lists: Path | None = None,
    progress: Progress = bar,
) -> list[dict[str, Any]]:
    """Train a model for each K on the dataset's own list of K videos a name, and return the rows of all models.

    All start from `config.backbone`, which is measured beside them, and are measured on the same videos of the first
    test split, since the lists are drawn from its training part. A run for each K lies in `out/K-shot`, and is gone on
    with when the command is repeated. Raises MaxiError when a list or one of its videos is missing, and when `out`
    holds files of others.
    """
    _, preset, found = located(spec, lists)
    if preset is None or preset.shots is None:
        raise MaxiError(
            f"{spec}: no lists of few-shot videos are known; give NAME:ROOT of ucf101, hmdb51 or ssv2, or train on a "
            "table of your own with `maxi adapt --config few_shot -s shots=K`"
        )
    if not (out / "results.json").is_file() and not any(
        (out / f"{k}-shot").is_dir() for k in shots
    ):
        refuse_full(out)
    root = Path(spec.partition(":")[2])
    tree, folder = VideoTree(root), ListFolder(lists or root)
    names = list(found[0].split.names)
    sources = {
        k: _videos(preset, folder, tree, names, k) for k in shots
    }  # all are there before hours of training
    models = {"frozen": config.backbone}
    for k, videos in sources.items():
        run = _train(config, names, videos, out / f"{k}-shot", progress)
        models[f"{k}-shot"] = saved_spec(config.backbone, run.model)
    with open_job(out, config, progress) as job:
        job.lock()
        splits = [found[0].split.name]
        return evaluate_datasets(job, models, [spec], out, lists=lists, splits=splits)


def _videos(
    preset: Preset, lists: ListFolder, tree: VideoTree, names: Sequence[str], k: int
) -> list[Source]:
    """Return the K videos of each name with their labels. Raises MaxiError when one is missing."""
    assert preset.shots is not None
    path, items = preset.shots(lists, k)
    videos = [(tree.find(item.path), item) for item in items]
    if missing := [item.path for found, item in videos if found is None]:
        raise MaxiError(
            f"{path}: {len(missing)} of {len(items)} videos are missing below {tree.root}, first {missing[0]}; "
            "K videos a name would not be K"
        )
    return [Source(found, names[item.labels[0]]) for found, item in videos if found]


def _train(
    config: Config, names: Sequence[str], videos: Sequence[Source], folder: Path, progress: Progress
) -> Run:
    """Train on labelled videos in a run of their own, and return it; a finished run is left as it is."""
    # The list has K videos of each name already.
    match = config.match.model_copy(update={"supervised": True, "shots": None})
    with open_job(folder, config.model_copy(update={"match": match}), progress) as job:
        start_run(job, names)
        index_sources(job, videos, job.run)
        for stage in (expand_run, match_run, caption_run, bag_run, train_run):
            stage(job)
        return job.run
