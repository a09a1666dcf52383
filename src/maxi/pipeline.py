"""The stages in order: each reads files of a run, writes one, and is left out while its output is current."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from maxi import captioning, evaluation, expansion, matching
from maxi.backbones import saved_spec
from maxi.bags import build_bags, shuffle_bags
from maxi.checkpoint import model_files
from maxi.classification import Classifier, Prediction
from maxi.config import Config, dump_config, load_config
from maxi.datasets import EXTENSIONS, list_videos, read_names
from maxi.decoding import Decoder
from maxi.errors import MaxiError, choose
from maxi.features import FeatureStore, embed_videos, embed_views, embeddings, trunk_digest
from maxi.indexing import check_skipped, index_videos, listing
from maxi.loader import Batches, cached_views, decoded_clips
from maxi.lookup import canonical_keys, shipped_book
from maxi.model import VideoCLIP, load_model
from maxi.objectives import OBJECTIVES
from maxi.progress import bar
from maxi.randomness import shuffled
from maxi.records import (
    Bag,
    Caption,
    Journal,
    Match,
    Phrases,
    Skipped,
    Video,
    digest,
    file_digest,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from maxi.reports import write_report
from maxi.runs import Run, contents, is_current, lock, meta_path, require, sign, write_signed
from maxi.text import VerbParser, fill
from maxi.training import train
from maxi.verification import write_verify
from maxi.zero_shot import label_embeddings

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass
class Job:
    """What every stage works with: the run's folder, its settings, the decoders and the frozen model."""

    run: Run
    config: Config
    decoder: Decoder
    progress: Progress = bar
    _models: dict[str, VideoCLIP] = field(default_factory=dict)
    _lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep other processes out of the run's folder until the job ends."""
        self._lock = self._lock or lock(self.run.folder)

    def model(self, folder: Path | None = None) -> VideoCLIP:
        """The frozen backbone, or the model saved in `folder`; one of them is in memory at a time."""
        saved = saved_spec(self.config.backbone, folder) if folder else ""
        if saved not in self._models:
            self._models.clear()
            self._models[saved] = fresh_model(self.config, saved)
        return self._models[saved]

    def release(self) -> None:
        """Free the memory of the model, which is loaded again when it is asked for."""
        self._models.clear()

    @cached_property
    def fingerprint(self) -> str:
        return self.model().backbone.fingerprint()

    def names(self) -> list[str]:
        return read_names(self.run.dictionary)

    def save_settings(self) -> None:
        write_text(self.run.config, [dump_config(self.config)])


@contextmanager
def open_job(folder: Path, config: Config, progress: Progress = bar) -> Iterator[Job]:
    """A job on a run's folder, with decoders that end with the block."""
    with Decoder(config.workers or None, config.deadline) as decoder:
        job = Job(Run(folder), config, decoder, progress)
        try:
            if job.run.folder.is_dir():
                job.lock()
            yield job
        finally:
            if job._lock:
                job._lock.close()


def fresh_model(config: Config, saved: str | None = None) -> VideoCLIP:
    """The backbone of these settings, or a saved model with the temperature it was trained with; for inference."""
    return load_model(
        saved or config.backbone,
        resolve_device(config.device),
        sigma=None if saved else config.train.sigma,
        normalisation=config.normalisation,
    )


def resolve_device(name: str) -> str:
    """`auto` is the GPU where there is one."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def videos_key(videos: Sequence[Video]) -> str:
    """Digest of what is in the videos; neither paths nor labels change it."""
    return digest([(v.id, v.n_frames) for v in videos])


def index(job: Job, where: str, run: Run | None = None) -> list[Video]:
    """Write `manifest.jsonl` and `skipped.jsonl`; a current manifest's videos are not decoded again."""
    run = run or job.run
    run.create()
    sources = list_videos(where)
    inputs = {"files": listing(sources)}
    if is_current(run.manifest, inputs):
        return read_jsonl(run.manifest, Video)
    old = read_jsonl(run.manifest, Video) if run.manifest.exists() else []
    journal = run.folder / "index.journal"
    videos, skipped = index_videos(
        sources, job.decoder, journal=journal, known={v.id: v for v in old}, progress=job.progress
    )
    write_jsonl(run.skipped, skipped)
    check_skipped(len(sources), skipped, job.config.index.max_skipped, str(run.skipped))
    write_signed(run.manifest, videos, inputs)
    journal.unlink(missing_ok=True)
    if skipped:
        short = sum(s.kind == "short" for s in skipped)
        log.warning(
            "%d of %d files are unreadable and %d end early; see %s",
            len(skipped) - short,
            len(sources),
            short,
            run.skipped,
        )
    return videos


def _embed(
    job: Job, model: VideoCLIP, videos: Sequence[Video], n_frames: int
) -> tuple[list[Video], np.ndarray]:
    """z_v of the videos that still decode, through the store; trunk features are kept where only heads differ."""
    backbone, trunk = model.backbone, job.config.train.trainable == "head"
    kind = trunk_digest(backbone) if trunk else backbone.fingerprint()
    store = FeatureStore(job.run.features, digest("segments", kind, n_frames, trunk))
    try:
        failed = embed_videos(
            model, videos, store, job.decoder, n_frames=n_frames, trunk=trunk, progress=job.progress
        )
        kept = _without(job, videos, failed)
        return kept, embeddings(model, store, [v.id for v in kept], trunk=trunk)
    finally:
        store.close()


def _without(job: Job, videos: Sequence[Video], failed: Sequence[Skipped]) -> list[Video]:
    """Leave out videos that could be decoded when they were indexed and cannot be now; too many end the run."""
    if failed:
        log.warning(
            "%d videos can no longer be read, first %s: %s",
            len(failed),
            failed[0].path,
            failed[0].reason,
        )
        check_skipped(len(videos), failed, job.config.index.max_skipped, "the log above")
    lost = {s.path for s in failed}
    return [v for v in videos if v.path not in lost]


def match(job: Job) -> list[Match]:
    """Write `matches.jsonl`: the frozen model matches every video to the dictionary (Eq. 1)."""
    run, config = job.run, job.config
    videos, names = read_jsonl(run.manifest, Video), job.names()
    inputs = {
        "manifest.jsonl": videos_key(videos),
        "dictionary.txt": digest(names),
        "backbone": job.fingerprint,
        "settings": config.match.model_dump(),
    }
    if is_current(run.matches, inputs):
        return read_jsonl(run.matches, Match)
    model = job.model()
    z_l = label_embeddings(model, names, config.match.templates).numpy()
    videos, z_v = _embed(job, model, videos, config.match.n_frames)
    rows = matching.match([v.id for v in videos], z_v, names, z_l, keep=config.match.keep)
    write_signed(run.matches, rows, inputs)
    for warning in matching.warnings(rows, names):
        log.warning(warning)
    return rows


def expand(job: Job) -> list[Phrases]:
    """Write `phrases.jsonl`: phrases for every dictionary entry."""
    run, config, names = job.run, job.config.expand, job.names()
    inputs = {
        "dictionary.txt": digest(names),
        "settings": _with_files(config.model_dump(), expansion.split_sources(config.expander)),
    }
    if is_current(run.phrases, inputs):
        return read_jsonl(run.phrases, Phrases)
    rows = expansion.expand(names, config.expander, n_phrases=config.n_phrases)
    write_signed(run.phrases, rows, inputs)
    return rows


def _with_files(settings: dict[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    """Settings with the contents of the files that `file:PATH` parts name, so that an edit is noticed."""
    files = [source.partition(":")[2] for source in sources if source.startswith("file:")]
    return {**settings, "files": [contents(Path(name)) for name in files]}


def caption(job: Job) -> list[Caption]:
    """Write `captions.jsonl`: captions of uniform frames of every video; resumed video by video."""
    run, config = job.run, job.config.caption
    videos = read_jsonl(run.manifest, Video)
    inputs = {
        "manifest.jsonl": videos_key(videos),
        "backbone": job.fingerprint,
        "settings": _with_files(config.model_dump(), [config.captioner]),
    }
    if is_current(run.captions, inputs):
        return read_jsonl(run.captions, Caption)
    if config.captioner == "none":
        write_signed(run.captions, [], inputs)
        return []
    context = captioning.Context(job.model())
    captioner, sees = captioning.make_captioner(config.captioner, context)
    source = config.captioner.partition(":")[0]
    journal = Journal(run.folder / "captions.journal", Caption, digest(inputs))
    done = {row.video for row in journal.done}
    todo = [v for v in videos if v.id not in done]
    requests = [captioning.request(v, config.n_frames) for v in todo] if sees else []
    answers: Iterable[Any] = job.decoder.map(requests) if sees else ((None, None) for _ in todo)
    failed = []
    try:
        for video, (_, frames) in job.progress(
            zip(todo, answers, strict=True), len(todo), "caption"
        ):
            if isinstance(frames, MaxiError):
                failed.append(Skipped(video.path, "unreadable", str(frames)))
                continue
            journal.add(Caption(video.id, captioning.tidy(captioner(video, frames)), source))
    finally:
        journal.close()
    _without(job, videos, failed)
    rows = sorted(journal.done, key=lambda row: row.video)
    write_signed(run.captions, rows, inputs)
    journal.path.unlink(missing_ok=True)
    return rows


def bag(job: Job) -> list[Bag]:
    """Write `bags.jsonl` from matches, phrases and captions."""
    run, config = job.run, job.config.bag
    inputs = {**_sources_of_bags(run), "settings": config.model_dump()}
    if not is_current(run.bags, inputs):
        _make_bags(job, inputs)
    bags = read_jsonl(run.bags, Bag)
    if empty := sum(not b.texts for b in bags):
        log.warning("%d of %d bags are empty and train on the class prompt alone", empty, len(bags))
    return bags


def _sources_of_bags(run: Run) -> dict[str, Any]:
    sources = (run.matches, run.phrases, run.captions)
    return {path.name: contents(path) for path in sources}


def _make_bags(job: Job, inputs: dict[str, Any]) -> None:
    run, config = job.run, job.config.bag
    videos = {"manifest.jsonl": videos_key(read_jsonl(run.manifest, Video))}
    names = {"dictionary.txt": digest(job.names())}
    require(run.matches, "match", videos | names)
    require(run.phrases, "expand", names)
    require(run.captions, "caption", videos)
    journal = Journal(run.folder / "bags.journal", Bag, digest(inputs))
    try:
        kept = [m for m in read_jsonl(run.matches, Match) if m.kept][len(journal.done) :]
        phrases = read_jsonl(run.phrases, Phrases) if config.phrases else []
        captions = read_jsonl(run.captions, Caption) if config.captions else []
        by_video = {row.video: row for row in captions}
        rows = build_bags(kept, phrases, by_video, VerbParser(), config)
        for row in job.progress(rows, len(kept), "bag"):
            journal.add(row)
    finally:
        journal.close()
    write_signed(run.bags, journal.done, inputs)
    journal.path.unlink(missing_ok=True)


def improve(job: Job, *, control: bool = False) -> dict[str, Any]:
    """Write `model/` and `training.json`: fine-tune on the bags, ensemble with the frozen weights.

    With `control` the bags are dealt out to the videos at random and everything goes to `control/`: what such a run
    gains is not owed to the matches.
    """
    config, run = job.config, job.run.control if control else job.run
    require(job.run.bags, "bag", _sources_of_bags(job.run))
    bags = read_jsonl(job.run.bags, Bag)
    inputs = _training_inputs(job)
    if is_current(run.training, inputs):
        summary = dict(read_json(run.training))
        if summary.get("weights") == _weights(run.model):
            return summary
    meta_path(run.training).unlink(missing_ok=True)  # nothing vouches for a model in the making
    run.training.unlink(missing_ok=True)
    run.create()
    if control:
        bags = shuffle_bags(bags, config.seed)
    videos = _known(job, bags)
    job.release()
    model = fresh_model(config)  # of its own: it is trained in place
    batches, store = _inputs(job, model, videos)
    try:
        bags = [b for b in bags if store is None or b.video in store]
        summary = train(
            model,
            bags,
            batches,
            config.train,
            folder=run.folder,
            seed=config.seed,
            key=job.fingerprint,
            progress=job.progress,
        )
    finally:
        if store:
            store.close()
    model.save(run.model)
    summary |= {"videos": len(bags), "weights": _weights(run.model)}
    write_json(run.training, summary)
    sign(run.training, inputs)
    return summary


def _training_inputs(job: Job) -> dict[str, Any]:
    settings = job.config.train.model_dump(exclude={"checkpoint_seconds"})
    return {
        "bags.jsonl": contents(job.run.bags),
        "backbone": job.fingerprint,
        "settings": {**settings, "seed": job.config.seed},
    }


def _weights(folder: Path) -> str:
    """Digest of a saved model's weights; empty when there is none."""
    return digest([file_digest(p) for p in model_files(folder)]) if folder.is_dir() else ""


def _known(job: Job, bags: Sequence[Bag]) -> list[Video]:
    by_id = {v.id: v for v in read_jsonl(job.run.manifest, Video)}
    for number, row in enumerate(bags, 1):
        if row.video not in by_id:
            raise MaxiError(
                f"{job.run.bags}:{number}: video {row.video!r} is not in manifest.jsonl; "
                "mend the row or rerun `maxi bag`"
            )
    if twice := len(bags) - len({b.video for b in bags}):
        raise MaxiError(
            f"{job.run.bags}: {twice} videos have more than one bag; keep one row for each"
        )
    return [by_id[b.video] for b in bags]


def _inputs(
    job: Job, model: VideoCLIP, videos: Sequence[Video]
) -> tuple[Batches, FeatureStore | None]:
    config, seed = job.config.train, job.config.seed
    if config.trainable != "head":
        return decoded_clips(model, videos, job.decoder, config, seed), None
    key = digest("views", trunk_digest(model.backbone), config.n_views, config.n_frames, seed)
    store = FeatureStore(job.run.features, key)
    failed = embed_views(
        model,
        videos,
        store,
        job.decoder,
        n_views=config.n_views,
        n_frames=config.n_frames,
        seed=seed,
        progress=job.progress,
    )
    _without(job, videos, failed)
    return cached_views(store, config.n_views), store


def evaluate(job: Job, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Write `predictions.jsonl`, and with labelled videos in `eval/` also `results.json`.

    Every model sees the same videos, names, prompt, frames and view; gains are paired over the frozen model.
    """
    run, config = job.run, job.config
    require(run.training, "train", _training_inputs(job))
    models = {"frozen": None, "adapted": run.model}
    if run.control.model.is_dir():
        if is_current(run.control.training, _training_inputs(job)):
            models["shuffled"] = run.control.model
        else:
            log.warning(
                "the control was trained on other bags or settings and is left out; add --control shuffled"
            )
    videos = read_jsonl(run.manifest, Video)
    chosen = set(shuffled([v.id for v in videos], "sample", config.seed)[: config.eval.sample])
    labelled = read_jsonl(run.eval.manifest, Video) if run.eval.manifest.exists() else []
    names = list(names or sorted({v.label for v in labelled if v.label is not None}))
    evaluation.label_indices(labelled, names)
    dictionary = job.names()
    groups = [([v for v in videos if v.id in chosen], dictionary), (labelled, names)]

    found: list[dict[str, tuple[list[Video], np.ndarray]]] = [{}, {}]
    for kind, folder in models.items():
        model = job.model(folder)
        for tables, (of, among) in zip(found, groups, strict=True):
            if of:
                tables[kind] = _scores(job, model, of, among)
    sample, scores = _aligned(found[0])
    rows = evaluation.predictions(sample, scores, dictionary)
    _write_rows(run.predictions, ({**row, "label": None} for row in rows))
    if not labelled:
        run.results.unlink(missing_ok=True)
        return []
    left, scores = _aligned(found[1])
    _write_rows(run.eval.predictions, evaluation.predictions(left, scores, names))
    records = _records(job, left, scores, names, videos)
    write_json(run.results, records)
    return records


def _aligned(
    tables: dict[str, tuple[list[Video], np.ndarray]],
) -> tuple[list[Video], dict[str, np.ndarray]]:
    """The videos that every model could read, and each model's scores of them, row by row."""
    kept = [{v.id: i for i, v in enumerate(videos)} for videos, _ in tables.values()]
    first = next(iter(tables.values()))[0]
    common = [v for v in first if all(v.id in rows for rows in kept)]
    return common, {
        kind: table[[rows[v.id] for v in common]]
        for rows, (kind, (_, table)) in zip(kept, tables.items(), strict=True)
    }


def _scores(
    job: Job, model: VideoCLIP, videos: Sequence[Video], names: Sequence[str]
) -> tuple[list[Video], np.ndarray]:
    z_l = label_embeddings(model, names, [job.config.eval.prompt]).numpy()
    kept, z_v = _embed(job, model, videos, job.config.eval.n_frames)
    return kept, z_v @ z_l.T


def _records(
    job: Job,
    videos: Sequence[Video],
    scores: dict[str, np.ndarray],
    names: Sequence[str],
    trained: Sequence[Video],
) -> list[dict[str, Any]]:
    """A record per model and split: all labelled videos, and those whose name was or was not in the dictionary."""
    config = job.config
    labels = evaluation.label_indices(videos, names)
    known = {canonical_keys(name)[0] for name in job.names()}
    is_known = [canonical_keys(name)[0] in known for name in names]
    seen = np.array([is_known[k] for k in labels])
    splits = {"all": np.ones(len(labels), dtype=bool), "seen": seen, "unseen": ~seen}
    contents_trained = {v.id.partition("-")[0] for v in trained}
    again = sum(v.id.partition("-")[0] in contents_trained for v in videos)
    if again:
        log.warning(
            "%d of %d labelled videos are also among the unlabelled ones", again, len(videos)
        )
    conditions = {
        "backbone": config.backbone,
        "weights": job.fingerprint,
        "prompt": config.eval.prompt,
        "n_frames": config.eval.n_frames,
        "views": "1 clip x 1 centre crop",
        "normalisation": config.normalisation,
        "names": digest(list(names)),
        "n_names": len(names),
        "names_in_dictionary": sum(is_known),
        "videos": videos_key(videos),
        "videos_also_unlabelled": again,
        "alpha": config.train.alpha,
        "trainable": config.train.trainable,
        "settings": digest(
            config.model_dump(mode="json", exclude={"device", "workers", "deadline"})
        ),
    }
    records = []
    for split, of in splits.items():
        if not of.any() or (split != "all" and of.all()):
            continue
        for kind, table in scores.items():
            record = {"model": kind, "split": split, "seed": config.seed}
            record |= evaluation.evaluate(table[of], labels[of], names)
            if kind != "frozen":
                record["gain"] = evaluation.compare(scores["frozen"][of], table[of], labels[of])
            records.append({**record, "conditions": conditions})
    return records


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def report(job: Job) -> Path:
    """Write `report.html`."""
    return write_report(job.run.folder, job.decoder, seed=job.config.seed)


def adapt(
    videos: str,
    actions: str | Path | Sequence[str],
    out: str | Path,
    config: Config | None = None,
    *,
    backbone: str | None = None,
    labelled: str | None = None,
    control: bool = False,
    resume: bool = False,
    progress: Progress = bar,
) -> Run:
    """Videos and action names in, an adapted model, its figures and a report out.

    Without a `config` the settings are the defaults for `backbone`. `labelled` are videos to measure on, `control` adds
    the shuffled control.

    Stages whose output is current are left out when `resume` is given; without it `out` must be new. Raises MaxiError
    for anything the user can mend; what was finished stays.
    """
    run = Run(out)
    names = read_names(actions) if isinstance(actions, (str, Path)) else actions
    if config is None:
        config = load_config(backbone=backbone)
    elif backbone is not None:
        raise MaxiError("adapt: config and backbone conflict; say the backbone in the config")
    list_videos(videos)
    if labelled:
        _check_labels(labelled)
    if run.config.exists() and not resume:
        raise MaxiError(
            f"{run.folder} already holds a run; add --resume to go on with it, or choose another -o"
        )
    with open_job(run.folder, config, progress) as job:
        check_settings(job)
        start(job, names)
        expand(job)
        if len(index(job, videos)) < 2:
            raise MaxiError(
                f"{videos}: only one readable video; contrast needs at least two, better hundreds"
            )
        if labelled:
            index(job, labelled, run.eval)
        match(job)
        caption(job)
        bag(job)
        improve(job)
        if control:
            improve(job, control=True)
        evaluate(job)
        report(job)
    return run


def check_settings(job: Job) -> None:
    """Refuse what would stop a later stage, before hours of decoding: backbone, sources, objective, parser."""
    config = job.config
    choose(OBJECTIVES, config.train.objective, "objective")
    expansion.parse(config.expand.expander)
    for template in config.match.templates or ():
        fill(template, "")
    VerbParser().phrases(["run"])
    model = job.model()
    if config.caption.captioner not in ("none", "retrieval"):
        captioning.make_captioner(config.caption.captioner, captioning.Context(model))


def _check_labels(labelled: str) -> None:
    sources = list_videos(labelled)
    if bare := [s for s in sources if s.label is None]:
        raise MaxiError(
            f"{labelled}: {len(bare)} of {len(sources)} videos have no label, first {bare[0].path}; "
            "use class folders, or a csv with path and label"
        )
    if len({s.label for s in sources}) < 2:
        raise MaxiError(f"{labelled}: all videos have one label; evaluation needs at least two")


def settings_to_resume(out: Path, backbone: str | None) -> Path | None:
    """The settings of the run to go on with, so that its flags need not be repeated; None for another backbone."""
    run = Run(out)
    if not run.config.is_file():
        return None
    return run.config if backbone in (None, load_config(run.config).backbone) else None


def start(job: Job, names: Sequence[str]) -> None:
    """Make the run's folder with its settings and its dictionary."""
    job.run.create()
    job.lock()
    job.save_settings()
    write_text(job.run.dictionary, (" ".join(name.split()) + "\n" for name in names))
    if (
        len(job.names()) < 2
    ):  # read back: names that came as a list are checked like those of a file
        raise MaxiError(
            f"{job.run.dictionary}: one action name leaves nothing to tell apart; add others"
        )


def summary(run: Run) -> Iterator[str]:
    """What a finished run came to, a few lines for the terminal."""
    if run.results.exists():
        records = [r for r in read_json(run.results) if r["split"] == "all"]
        yield f"{'model':10} {'top-1':>7} {'top-5':>7} {'per class':>10}   on {records[0]['n']} labelled videos"
        for r in records:
            gain = r.get("gain", {}).get("top1")
            paired = (
                f"   top-1 {gain['gain']:+.1f} [{gain['interval'][0]:+.1f}, {gain['interval'][1]:+.1f}]"
                if gain
                else ""
            )
            yield f"{r['model']:10} {r['top1']:7.1f} {r['top5']:7.1f} {r['mean_per_class']:10.1f}{paired}"
    else:
        rows = [
            json.loads(line) for line in run.predictions.read_text(encoding="utf-8").splitlines()
        ]
        same = sum(r["frozen"][0][0] == r["adapted"][0][0] for r in rows)
        yield f"frozen and adapted agree on {same} of {len(rows)} videos; no labels, so no gain is claimed"
        yield f"judge a sample yourself: maxi verify {run.folder} -n 40"
    yield f"model:  {run.model}"
    if run.report.exists():
        yield f"report: {run.report}"


def verify(job: Job, n: int) -> Path:
    """Write `verify.html`, on which a person judges `n` sampled clips."""
    return write_verify(job.run.folder, job.decoder, n=n, seed=job.config.seed)


def classify_videos(
    videos: str,
    spec: str,
    *,
    actions: Path | None = None,
    window: float = 30.0,
    prompt: str | None = None,
    k: int = 5,
    none: bool = False,
    device: str | None = None,
    progress: Progress = bar,
) -> Iterator[Prediction | MaxiError]:
    """Predictions for a file, or each video of a folder or list; a run brings its names, prompt and frames along.

    A file that cannot be decoded gives a MaxiError in place of predictions; alone, it is raised.
    """
    run = Run(spec)
    if not run.config.is_file() and Run(run.folder.parent).model == run.folder:
        run = Run(run.folder.parent)  # the model folder of a run
    own = run.config.is_file()
    config = load_config(run.config if own else None, backbone=None if own else spec, device=device)
    if actions is None and not run.dictionary.is_file():
        raise MaxiError(f"{spec} has no action names of its own; pass --actions FILE")
    names = read_names(actions or run.dictionary)
    alone = Path(videos).is_file() and Path(videos).suffix.lower() in EXTENSIONS
    paths = [videos] if alone else [str(s.path) for s in list_videos(videos)]
    model = fresh_model(config, spec)
    classifier = Classifier(
        model,
        names,
        prompt=prompt or config.eval.prompt,
        n_frames=config.eval.n_frames,
        k=k,
        others=list(shipped_book().labels) if none else (),
    )
    with Decoder(config.workers or None, config.deadline) as decoder:
        for path in paths if alone else progress(paths, len(paths), "classify"):
            try:
                yield from classifier.windows(path, decoder, window)
            except MaxiError as error:
                if alone:
                    raise
                yield error
