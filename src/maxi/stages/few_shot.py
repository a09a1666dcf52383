"""Few-shot and base-to-novel: train on K labelled videos of each name of a dataset, and measure (Table 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maxi.config import Config
from maxi.datasets.check import located
from maxi.datasets.files import ListFolder, VideoTree
from maxi.datasets.lists import Item
from maxi.datasets.own import tested, trained
from maxi.datasets.preset import Found, Listed, Split, drawn, found_of
from maxi.errors import MaxiError
from maxi.files import digest, refuse_full
from maxi.models.load import saved_spec
from maxi.progress import Progress, bar
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.datasets import Dataset, add, earlier, grouped, mean_of, measure
from maxi.stages.embedding import members_of
from maxi.stages.expand import expand_run
from maxi.stages.index import index_sources, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from maxi.video.sources import Source

SHOTS = 16  # K of the base-to-novel protocol


class Trial(NamedTuple):
    """One training: what it is called, its K and, where they are several, its seed, its names and its videos."""

    name: str
    k: int
    seed: int | None
    listed: str
    names: Sequence[str]
    videos: Sequence[Source]


class OnDisk(NamedTuple):
    """A dataset as it lies on disk, with all that training videos are found by."""

    dataset: Dataset
    tree: VideoTree | None
    lists: ListFolder | None

    def path(self, listed: str) -> Path | None:
        """Return the file of a listed path; None when there is none."""
        path = self.tree.find(listed) if self.tree else Path(listed)
        return path if path and path.exists() else None


def few_shot(
    config: Config,
    spec: str,
    shots: Sequence[int],
    out: Path,
    *,
    lists: Path | None = None,
    draws: int = 0,
    progress: Progress = bar,
) -> list[dict[str, Any]]:
    """Train a model for each K on K videos of each name, and return the rows of all models.

    The videos are those of the dataset's own list of K; with `draws`, models are trained on so many draws from its
    training videos, with the seeds 0, 1, ..., and a row has their mean. All start from `config.backbone`, which is
    measured beside them, and are measured on the same videos of the first test split, since the lists are drawn from
    its training part. A run for each lies in `out`, and is gone on with when the command is repeated. Raises MaxiError
    when a list or one of its videos is missing, and when `out` holds files of others.
    """
    disk = _on_disk(spec, lists)
    names = disk.dataset.found[0].split.names
    if draws:
        listed = _training_of(disk, spec)
        trials = [
            Trial(f"{k}-shot seed {seed}", k, seed, str(listed.path), names, videos)
            for k in shots
            for seed in range(draws)
            for videos in [_sources(drawn(listed.items, names, k, seed, disk.path), names, disk)]
        ]
    else:
        trials = [
            Trial(f"{k}-shot", k, None, str(path), names, _all_of(path, items, names, disk))
            for k in shots
            for path, items in [_published(disk, spec, k)]
        ]
    first = disk.dataset._replace(found=disk.dataset.found[:1])
    rows = _train_and_measure(config, trials, first, out, progress)
    return _added(out, [*rows, *_means_over_seeds(rows)])


def base_to_novel(
    config: Config,
    spec: str,
    out: Path,
    *,
    lists: Path | None = None,
    draws: int = 0,
    progress: Progress = bar,
) -> list[dict[str, Any]]:
    """Train on 16 videos of each base name, and return the rows on base and on novel names, and their harmonic means.

    Base and novel names, test videos and the training videos of three seeds are those of the field's lists; with
    `draws`, the first half of the names is the base, and so many draws are taken from the training videos. Videos of a
    half are told apart among its own names. See `few_shot`.
    """
    disk = _on_disk(spec, lists)
    if draws:
        listed = _training_of(disk, spec)
        halves, trials = _drawn_halves(disk, listed, draws)
    else:
        preset = disk.dataset.preset
        if preset is None or preset.halves is None or disk.lists is None:
            raise MaxiError(
                f"{spec}: no base-to-novel lists are known; add --draws 3 to draw from its training videos"
            )
        base, novel, training = preset.halves(disk.lists)
        assert disk.tree is not None
        halves = [found_of(split, disk.tree) for split in (base, novel)]
        trials = [
            _base_trial(seed, path, base.names, _all_of(path, items, base.names, disk))
            for seed, (path, items) in training.items()
        ]
    if empty := [part.split.name for part in halves if not part.videos]:
        raise MaxiError(f"{spec}: none of the {empty[0]} videos is on disk; check the folder")
    dataset = disk.dataset._replace(found=halves)
    rows = _train_and_measure(config, trials, dataset, out, progress)
    rows += _means_over_seeds(rows)
    return _added(out, [*rows, *_harmonic(rows)])


def _on_disk(spec: str, lists: Path | None) -> OnDisk:
    """Find a dataset, and for a preset its tree of videos and its folder of lists."""
    name, preset, found = located(spec, lists)
    root = Path(spec.partition(":")[2])
    own = Dataset(name, spec, preset, tested(found) if preset is None else found)
    if preset is None:
        return OnDisk(own, None, None)
    return OnDisk(own, VideoTree(root), ListFolder(lists or root))


def _published(disk: OnDisk, spec: str, k: int) -> Listed:
    """Return the dataset's own list of K videos of each name."""
    preset = disk.dataset.preset
    if preset is None or preset.shots is None or disk.lists is None:
        raise MaxiError(
            f"{spec}: no lists of few-shot videos are known; add --draws 3 to draw from its training videos"
        )
    return preset.shots(disk.lists, k)


def _training_of(disk: OnDisk, spec: str) -> Listed:
    """Return the training videos of a dataset, from which shots are drawn."""
    preset = disk.dataset.preset
    if preset and preset.training and disk.lists:
        return preset.training(disk.lists, disk.dataset.found[0].split.names)
    part = trained(located(spec)[2]) if preset is None else None
    if part is None:
        raise MaxiError(
            f"{spec}: no training videos are known to draw from; give a csv with path, label and split, "
            "whose split is `train` for them"
        )
    return Listed(Path(spec), part.split.items)


def _sources(items: Sequence[Item], names: Sequence[str], disk: OnDisk) -> list[Source]:
    """Return the videos of items that are on disk, with their labels."""
    pairs = [(disk.path(item.path), names[item.labels[0]]) for item in items]
    return [Source(path, name) for path, name in pairs if path]


def _all_of(path: Path, items: Sequence[Item], names: Sequence[str], disk: OnDisk) -> list[Source]:
    """Return the videos of a list. Raises MaxiError when one is missing."""
    videos = _sources(items, names, disk)
    if len(videos) < len(items):
        missing = [item.path for item in items if not disk.path(item.path)]
        raise MaxiError(
            f"{path}: {len(missing)} of {len(items)} videos are missing, first {missing[0]}; K videos a name would not "
            "be K: add them, or draw others with --draws"
        )
    return videos


def _drawn_halves(disk: OnDisk, listed: Listed, draws: int) -> tuple[list[Found], list[Trial]]:
    """Return the test videos of both halves of the names, and the trials of the first."""
    part = disk.dataset.found[0]
    if len(part.split.names) < 4:
        raise MaxiError(
            f"{disk.dataset.spec} has {len(part.split.names)} names, which leave nothing to tell apart in halves; "
            "give videos of at least four"
        )
    middle = (len(part.split.names) + 1) // 2
    halves = []
    for half, labels in (
        ("base", range(middle)),
        ("novel", range(middle, len(part.split.names))),
    ):
        names = [part.split.names[label] for label in labels]
        own = {
            item: item._replace(labels=(item.labels[0] - labels.start,))
            for item in part.split.items
            if item.labels[0] in labels
        }
        split = Split(half, names, list(own.values()), part.split.sources)
        videos = [(path, own[item]) for path, item in part.videos if item in own]
        halves.append(Found(split, videos, [own[item] for item in part.missing if item in own]))
    base = halves[0].split.names
    return halves, [
        _base_trial(seed, listed.path, base, _sources(items, base, disk))
        for seed in range(draws)
        for items in [drawn(listed.items, base, SHOTS, seed, disk.path)]
    ]


def _base_trial(seed: int, path: Path, names: Sequence[str], videos: Sequence[Source]) -> Trial:
    return Trial(f"{SHOTS}-shot seed {seed}", SHOTS, seed, str(path), names, videos)


def _train_and_measure(
    config: Config, trials: Sequence[Trial], dataset: Dataset, out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Train all trials, each in a run of its own, and return the rows of their models and of their start."""
    folders = [out / trial.name.replace(" ", "-") for trial in trials]
    if not (out / "results.json").is_file() and not any(folder.is_dir() for folder in folders):
        refuse_full(out)
    earlier(out)
    start = Run(Path(config.backbone))
    alpha = load_config(start.config).train.alpha if start.is_run() else None
    specs = {"frozen": config.backbone}
    about: dict[str, dict[str, Any]] = {}
    for trial, folder in zip(trials, folders, strict=True):
        run = _train(config, trial, folder, progress)
        specs[trial.name] = saved_spec(config.backbone, run.model)
        about[trial.name] = {
            "trained_on": {
                "shots": trial.k,
                "seed": trial.seed,
                "list": trial.listed,
                "videos": digest(sorted((v.path.name, str(v.label)) for v in trial.videos)),
                "start": config.backbone,
                "start_alpha": alpha,
            }
        }
    with open_job(out, config, progress) as job:
        job.lock()
        return measure(job, members_of(job, specs, about), dataset, out)


def _train(config: Config, trial: Trial, folder: Path, progress: Progress) -> Run:
    """Train on labelled videos in a run of their own, and return it; a finished run is left as it is."""
    # The list has K videos of each name already.
    match = config.match.model_copy(update={"supervised": True, "shots": None})
    with open_job(folder, config.model_copy(update={"match": match}), progress) as job:
        start_run(job, trial.names)
        index_sources(job, trial.videos, job.run)
        for stage in (expand_run, match_run, caption_run, bag_run, train_run):
            stage(job)
        return job.run


def _means_over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean and the deviation over seeds of all models that were trained on as many videos a name."""
    trained_rows = [
        {**row, "k": str(about["shots"])}
        for row in rows
        if (about := row["conditions"].get("trained_on")) and about["seed"] is not None
    ]
    groups = grouped(trained_rows, ("split", "names", "texts", "part", "k"))
    return [
        mean_of(group, {"model": f"{group[0]['k']}-shot mean of {len(group)}"})
        for group in groups
        if len(group) > 1
    ]


def _harmonic(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the harmonic means of what a model reaches on base and on novel names, in percent.

    That of several seeds is of their means.
    """
    harmonic = []
    for group in grouped(rows, ("names", "texts", "part", "model")):
        if len(group) != 2:
            continue
        mean = mean_of(group, {"split": "harmonic"})
        for figure in ("top1", "top5", "mean_per_class"):
            base, novel = (row[figure] for row in group)
            mean[figure] = round(2 * base * novel / (base + novel), 2) if base + novel else 0.0
            del mean[f"{figure}_std"]
        harmonic.append(mean)
    return harmonic


def _added(out: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    add(out, rows)
    return rows
