"""One trial of the method on the miniature: the videos of a seed, the adapted model, and the rows of the proof."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from lemminflect import getLemma
from numpy.typing import NDArray

from maxi.config import Config
from maxi.documents import Record, read_document
from maxi.method import evaluation, transduction
from maxi.method.expansion import expand
from maxi.miniature import captions as written
from maxi.miniature import scenery
from maxi.miniature.actions import BY_NAME, VALIDATION, partition
from maxi.miniature.videos import Order, draw_clip, render
from maxi.models.text_embeddings import embed_names
from maxi.progress import Progress, under
from maxi.records import Bag, Caption, Match, Video, read_jsonl
from maxi.run import Run, meta_path, write_signed
from maxi.stages.adapt import adapt
from maxi.stages.bag import bag_run
from maxi.stages.branch import branch
from maxi.stages.embedding import embed
from maxi.stages.index import index_run
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, open_job
from maxi.stages.train import train_run
from maxi.studies.collection import Sizes, Split
from maxi.studies.replacements import permuted_names, true_matches
from maxi.studies.study import Matches
from maxi.video.sources import list_videos

SMALL = Sizes(pool=160, unseen=320, known=80)
FULL = Sizes(pool=400, unseen=640, known=240)
"""The small sizes are for a look at the method in minutes, the full ones for the proof."""


def parts_of(control: bool) -> list[str]:
    """Return the parts of a trial of the adapted model, with or without the control, as its progress calls them."""
    training = ["train", "train control"] if control else ["train"]
    return ["render", "index", "embed", "caption", "bag", *training, "evaluate"]


class Row(NamedTuple):
    """A way to train: what is in the bags, the objective, a function that replaces the matches, and more of `bag`."""

    phrases: bool = True
    captions: bool = True
    objective: str = "mil_nce"
    matches: Matches | None = None
    bag: Mapping[str, Any] = MappingProxyType({})


ROWS = {
    "adapted_instance": Row(objective="mil_nce_instance"),
    "names_only": Row(False, False),
    "names_only_instance": Row(False, False, "mil_nce_instance"),
    "names_phrases": Row(True, False),
    "names_phrases_instance": Row(True, False, "mil_nce_instance"),
    "names_captions": Row(False, True),
    "names_captions_instance": Row(False, True, "mil_nce_instance"),
    "permuted": Row(False, False, matches=permuted_names),
    "true_labels": Row(matches=true_matches),
}
"""The models that the proof trains beside the full bags (`adapted`) and the shuffled control."""


WITHOUT_TRAINING = ("centred", "averaged_phrases")
TRANSDUCTIVE = "even_gaussian"
"""Rows without training: those that answer for each video alone, and one that assumes something of all of them."""


Scores = NDArray[np.float32]

# The figures of an evaluation that a record keeps.
RECORDED = ("top1", "top5", "n", "top1_interval", "per_class")


def run_trial(
    folder: Path,
    seed: int,
    config: Config,
    *,
    control: bool,
    every_row: bool,
    validation: bool = False,
    sizes: Sizes,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Render, adapt and measure one seed; return its records, and facts on its matches, captions and bags.

    The seed decides the partition of the actions, the videos and the training. With `control` the shuffled control is
    trained too. With `every_row` all rows of the proof are trained, and videos without the shift are measured as well.
    With `validation` the unseen videos show the validation actions, on which settings are chosen. An interrupted trial
    goes on where it was.
    """
    known, unseen = partition(seed)
    split = "validation" if validation else "unseen"
    if validation:
        unseen = sorted(action.name for action in VALIDATION)
    measured = [Order(split, unseen, sizes.unseen), Order("known", known, sizes.known)]
    probe = Order("known.plain", known, sizes.known, style="plain")
    orders = [Order("pool", known, sizes.pool), *measured]
    if every_row:
        measured.append(Order(f"{split}.plain", unseen, sizes.unseen, style="plain"))
        orders += [measured[-1], probe]
    videos = folder / "videos"
    render(videos, seed, orders, progress=progress)
    run = adapt(
        str(videos / "pool"),
        known,
        folder / "run",
        config,
        labelled=str(videos / f"{split}.csv"),
        control=control,
        resume=True,
        progress=progress,
    )
    with open_job(run.folder, config, under("evaluate", progress)) as job:
        splits = [Split(split, read_jsonl(run.eval.manifest, Video), unseen)]
        splits += [
            Split(order.split, labelled(job, videos, order.split), list(order.names))
            for order in measured[1:]
        ]
        shifted = [split for split in splits if not split.name.endswith(".plain")]
        truth = truth_of(videos, read_jsonl(run.manifest, Video))
        tables = {
            "frozen": scores_of(job, None, splits),
            "adapted": scores_of(job, run.model, splits),
        }
        if control:
            tables["shuffled"] = scores_of(job, run.control.model, shifted)
        facts = {"seed": seed, **_facts(job, truth, unseen)}
        if every_row:
            named = _objects_named(job, seed, labelled(job, videos, probe.split))
            facts["object_accuracy"] = _percent(named)
            tables |= _without_training(job, shifted)
    if every_row:
        for name, row in ROWS.items():
            tables[name] = train_row(run, name, row, config, truth, shifted, progress)
    return records_of(tables, splits, config, seed), facts


def labelled(job: Job, videos: Path, split: str) -> list[Video]:
    """Index the labelled videos of a split in a folder of the run, and return them."""
    return index_run(job, str(videos / f"{split}.csv"), Run(job.run.folder / split))


def truth_of(videos: Path, pool: Sequence[Video]) -> dict[str, str]:
    """Return the rendered action by video id; for measuring, and for the row that trains on true labels."""
    labels = {s.path.resolve(): str(s.label) for s in list_videos(videos / "pool.csv")}
    return {video.id: labels[Path(video.path).resolve()] for video in pool}


def scores_of(job: Job, folder: Path | None, splits: Sequence[Split]) -> dict[str, Scores]:
    """Return by split the cosines (B, K) of videos and names, of the model in `folder` or of the frozen one."""
    model, scores = job.model(folder), {}
    for split in splits:
        z_l = embed_names(model, split.names, [job.config.eval.prompt])
        _, z_v = embed(job, model, split.videos, job.config.eval.n_frames)
        scores[split.name] = z_v @ z_l.T
    return scores


def _without_training(job: Job, splits: Sequence[Split]) -> dict[str, dict[str, Scores]]:
    """Return the scores of the frozen model with centred video features, with phrases averaged into class texts, and
    with all names assumed equally common among the videos of a split.
    """
    model, config = job.model(), job.config
    _, z_pool = embed(job, model, read_jsonl(job.run.manifest, Video), config.eval.n_frames)
    phrases = all_phrases(config)
    centred, averaged, even = {}, {}, {}
    for split in splits:
        _, z_v = embed(job, model, split.videos, config.eval.n_frames)
        z_l = embed_names(model, split.names, [config.eval.prompt])
        centred[split.name] = transduction.centred(z_v, z_l, z_pool.mean(0))
        means = [
            embed_names(model, [name, *phrases[name]], [config.eval.prompt]).mean(0)
            for name in split.names
        ]
        averaged[split.name] = z_v @ unit(np.stack(means)).T
        even[split.name] = transduction.even_gaussian(z_v, z_l, config.match.tau)
    return dict(zip((*WITHOUT_TRAINING, TRANSDUCTIVE), (centred, averaged, even), strict=True))


def all_phrases(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the phrases of all actions of the miniature, by name."""
    return {row.name: row.texts for row in expand(list(BY_NAME), config.expand.expander)}


def unit(rows: Scores) -> Scores:
    """Scale every row to unit norm."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def train_row(
    main: Run,
    name: str,
    row: Row,
    config: Config,
    truth: Mapping[str, str],
    splits: Sequence[Split],
    progress: Progress,
) -> dict[str, Scores]:
    """Train one row of the proof in its own run, on the main run's matches, phrases and captions; return its scores."""
    bag_settings = {"phrases": row.phrases, "captions": row.captions, **row.bag}
    settings = {
        "bag": config.bag.model_copy(update=bag_settings),
        "train": config.train.model_copy(update={"objective": row.objective}),
    }
    run = branch(main, main.folder.parent / "rows" / name, config, config)
    if row.matches:
        matches = read_jsonl(main.matches, Match)
        known = sorted(set(truth.values()))
        inputs = read_document(meta_path(main.matches), Record)["inputs"]
        write_signed(run.matches, row.matches(matches, truth, known, config.seed), inputs)
    with open_job(run.folder, config.model_copy(update=settings), progress) as job:
        job.save_settings()
        bag_run(job)
        train_run(job)
        return scores_of(job, run.model, splits)


def records_of(
    tables: Mapping[str, Mapping[str, Scores]], splits: Sequence[Split], config: Config, seed: int
) -> list[dict[str, Any]]:
    """Return a record for each split and model; `tables` holds the scores by model, then by split."""
    records = []
    for split in splits:
        labels = evaluation.label_indices(split.videos, split.names)
        conditions = {
            "names": len(split.names),
            "prompt": config.eval.prompt,
            "n_frames": config.eval.n_frames,
            "views": "1 clip x 1 centre crop",
            "videos": videos_key(split.videos),
            "backbone": config.backbone,
            "alpha": config.train.alpha,
        }
        for model, by_split in tables.items():
            if split.name not in by_split:
                continue
            scores = by_split[split.name]
            result = evaluation.evaluate(scores, labels, split.names)
            record = {"model": model, "split": split.name, "seed": seed}
            record |= {key: result[key] for key in RECORDED}
            if model != "frozen":
                frozen = tables["frozen"][split.name]
                record["gain"] = evaluation.compare(frozen, scores, labels)["top1"]
            records.append({**record, "conditions": conditions})
    return records


def _facts(job: Job, truth: Mapping[str, str], unseen: Sequence[str]) -> dict[str, Any]:
    """Return how good matches and captions are, and how many texts in bags hold an unseen name."""
    run = job.run
    matches = read_jsonl(run.matches, Match)
    right = [m.name == truth[m.video] for m in matches]
    right_of_kept = [m.name == truth[m.video] for m in matches if m.kept]
    captions = {row.video: row.captions for row in read_jsonl(run.captions, Caption)}
    names = sorted(set(truth.values()))
    right_of_captions = [
        _action_of(captions.get(video, ()), names) == name for video, name in truth.items()
    ]
    texts = [t.text for b in read_jsonl(run.bags, Bag) for t in b.texts]
    return {
        "matching_accuracy": _percent(right),
        "kept_accuracy": _percent(right_of_kept),
        "caption_accuracy": _percent(right_of_captions),
        "unseen_names_in_bags": sum(names_action(text, unseen) for text in texts),
        "texts_in_bags": len(texts),
    }


def names_action(text: str, names: Sequence[str]) -> bool:
    """Return whether a text holds one of the names, or begins with the verb of one: `box high` names `boxing`."""
    named = re.search(r"\b(" + "|".join(map(re.escape, names)) + r")\b", text)
    return bool(named) or text.split(" ")[0] in {getLemma(n, "VERB")[0] for n in names}


def _percent(right: Sequence[bool]) -> float:
    """Return the percentage of True."""
    return round(100 * float(np.mean(right)), 2) if right else 0.0


def _action_of(captions: Sequence[str], names: Sequence[str]) -> str:
    """Return the action whose states of the body the captions name most often, on average over its states."""
    text = "\n".join(captions)
    counts = {
        state: sum(text.count(written.gerund(phrase)) for phrase in phrases)
        for state, phrases in written.STATES.items()
    }
    share = {name: np.mean([counts[state] for state in BY_NAME[name].states()]) for name in names}
    return max(names, key=lambda name: share[name])


def _objects_named(job: Job, seed: int, videos: Sequence[Video]) -> list[bool]:
    """Return for each video, of a known action and without the shift, whether the frozen model names its object."""
    model, objects = job.model(), list(scenery.OBJECTS)
    z_objects = embed_names(model, objects, ["a photo of a person with a {}."])
    _, z_v = embed(job, model, videos, job.config.match.n_frames)
    nearest = (z_v @ z_objects.T).argmax(1)
    return [
        objects[k] == draw_clip(seed, "known", int(Path(v.path).stem), str(v.label)).scene.object
        for k, v in zip(nearest, videos, strict=True)
    ]
