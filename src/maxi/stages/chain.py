"""The stages: each reads files of a run, writes one, and is left out while its output is current."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from maxi.errors import MaxiError
from maxi.method import captioning, expansion, matching
from maxi.method.agreement import near_texts
from maxi.method.bags import build_bags
from maxi.models.text_embeddings import averaged_embeddings, label_embeddings
from maxi.models.video_clip import VideoCLIP
from maxi.records import (
    Bag,
    Caption,
    Journal,
    Match,
    Phrases,
    Skipped,
    Video,
    digest,
    read_jsonl,
    write_jsonl,
)
from maxi.run import (
    Run,
    contents,
    is_current,
    require,
    sources_of_bags,
    write_signed,
)
from maxi.stages.index import check_skipped, index_videos, listing
from maxi.stages.job import (
    Job,
    bag_videos,
    embed,
    fresh_model,
    resolve_device,
    videos_key,
    without,
)
from maxi.text.chat import tell
from maxi.text.verbs import VerbParser
from maxi.video.sources import list_videos

log = logging.getLogger(__name__)

MAX_SILENT = 0.2  # share of videos without captions that goes unmentioned


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
    if config.match.supervised:
        inputs["labels"] = digest([[v.label for v in videos], config.seed])
    if is_current(run.matches, inputs):
        return read_jsonl(run.matches, Match)
    if config.match.supervised:
        rows = matching.by_labels(videos, names, config.match.shots, config.seed)
        write_signed(run.matches, rows, inputs)
        return rows
    model = job.model()
    z_l = label_embeddings(model, names, config.match.templates).numpy()
    videos, z_v = embed(job, model, videos, config.match.n_frames)
    rows = matching.match(
        [v.id for v in videos],
        z_v,
        names,
        z_l,
        keep=config.match.keep,
        per_name=config.match.per_name,
        top_k=config.match.top_k,
        tau=config.match.tau,
    )
    write_signed(run.matches, rows, inputs)
    for warning in matching.warnings(rows, names):
        log.warning(warning)
    return rows


def expand(job: Job) -> list[Phrases]:
    """Write `phrases.jsonl`: phrases for every dictionary entry."""
    run, config, names = job.run, job.config.expand, job.names()
    inputs = {
        "dictionary.txt": digest(names),
        "settings": _with_files(config.model_dump(), _phrase_files(config.expander)),
        **_asked(job, config.expander),
    }
    if is_current(run.phrases, inputs):
        return read_jsonl(run.phrases, Phrases)
    rows = expansion.expand(names, config.expander, config.n_phrases, context=_expansion(job))
    write_signed(run.phrases, rows, inputs)
    return rows


def class_embeddings(job: Job, model: VideoCLIP, names: Sequence[str]) -> np.ndarray:
    """z_l (K, D) of the names among which videos are recognised, as `eval.names` says."""
    config = job.config
    if config.eval.names == "templates":
        return label_embeddings(model, names, config.match.templates).numpy()
    if config.eval.names == "prompt":
        return label_embeddings(model, names, [config.eval.prompt]).numpy()
    rows = expansion.expand(
        names, config.expand.expander, config.expand.n_phrases, context=_expansion(job)
    )
    found = {row.label: row.texts for row in rows}
    return averaged_embeddings(model, names, found, config.eval.prompt).numpy()


def _asked(job: Job, sources: str) -> dict[str, Any]:
    """The settings of `chat` that decide what language models reply, where one of the sources is such a model."""
    if not any(part.startswith(("openai:", "hf:")) for part in sources.split("+")):
        return {}
    return {"chat": job.config.chat.model_dump(include={"base_url", "temperature"})}


def _expansion(job: Job) -> expansion.Context:
    config = job.config
    return expansion.Context(
        config.expand.n_phrases, config.chat, resolve_device(config.device), job.progress
    )


def plan_expand(job: Job) -> list[str]:
    """What `expand` would ask of servers, one line for each, without asking."""
    plans = expansion.plan(job.names(), job.config.expand.expander, _expansion(job))
    return [f"{source}: {tell(plan)}" for source, plan in plans]


def plan_caption(job: Job) -> list[str]:
    """What `caption` would ask of a server at most, without asking."""
    config = job.config.caption
    videos = read_jsonl(job.run.manifest, Video)
    frames = sum(len(captioning.request(v, config.n_frames).indices or ()) for v in videos)
    plan = captioning.plan(config.captioner, frames, job.config.chat)
    return [f"{config.captioner}: {tell(plan)}"] if plan else []


def _phrase_files(expander: str) -> list[Path]:
    sources = expansion.split_sources(expander)
    return [Path(s.partition(":")[2]) for s in sources if s.startswith("file:")]


def _with_files(settings: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Settings with the contents of the files that they name, so that an edit is noticed."""
    return {**settings, "files": [contents(path) for path in files]}


def caption(job: Job) -> list[Caption]:
    """Write `captions.jsonl`: captions of uniform frames of every video; resumed video by video."""
    run, config = job.run, job.config.caption
    videos = read_jsonl(run.manifest, Video)
    inputs = {
        "manifest.jsonl": videos_key(videos),
        "backbone": job.fingerprint,
        "settings": _with_files(config.model_dump(), captioning.source_files(config.captioner)),
        **_asked(job, config.captioner),
    }
    if is_current(run.captions, inputs):
        return read_jsonl(run.captions, Caption)
    if config.captioner == "none":
        write_signed(run.captions, [], inputs)
        return []
    context = captioning.Context(job.model(), job.config.chat)
    captioner, sees = captioning.make_captioner(config.captioner, context)
    source = config.captioner.partition(":")[0]
    journal = Journal(run.folder / "captions.journal", Caption, digest(inputs))
    done = {row.video for row in journal.done}
    size = captioner.n_videos if isinstance(captioner, captioning.Together) else 1
    todo = captioning.unfinished(videos, done, size)
    requests = [captioning.request(v, config.n_frames) for v in todo] if sees else []
    answers: Iterable[Any] = job.decoder.map(requests) if sees else ((None, None) for _ in todo)
    failed = []
    try:
        shown = iter(job.progress(zip(todo, answers, strict=True), len(todo), "caption"))
        while chunk := [(video, frames) for video, (_, frames) in islice(shown, size)]:
            lost = [(v, f) for v, f in chunk if isinstance(f, MaxiError)]
            failed += [Skipped(v.path, "unreadable", str(error)) for v, error in lost]
            read = [(v, f) for v, f in chunk if not isinstance(f, MaxiError)]
            told = captioning.describe(captioner, read) if read else []
            for (video, _), captions in zip(read, told, strict=True):
                if video.id not in done:
                    journal.add(Caption(video.id, captions, source))
    finally:
        journal.close()
    without(job, videos, failed)
    rows = sorted(journal.done, key=lambda row: row.video)
    if (silent := sum(not row.captions for row in rows)) > MAX_SILENT * len(rows):
        log.warning("%s said nothing of %d of %d videos", config.captioner, silent, len(rows))
    write_signed(run.captions, rows, inputs)
    journal.path.unlink(missing_ok=True)
    return rows


def bag(job: Job) -> list[Bag]:
    """Write `bags.jsonl` from matches, phrases and captions."""
    run, config = job.run, job.config.bag
    files = [Path(config.weights)] if config.weights else []
    inputs = {**sources_of_bags(run), "settings": _with_files(config.model_dump(), files)}
    second = fresh_model(job.config, config.agree) if config.agree else None
    if second:
        inputs |= {"backbone": job.fingerprint, "agree": second.backbone.fingerprint()}
    if not is_current(run.bags, inputs):
        _make_bags(job, inputs, second)
    bags = read_jsonl(run.bags, Bag)
    empty = sum(not b.texts for b in bags)
    if empty and not job.config.match.supervised:
        log.warning("%d of %d bags are empty and train on the class prompt alone", empty, len(bags))
    return bags


def _make_bags(job: Job, inputs: dict[str, Any], second: VideoCLIP | None) -> None:
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
    found = _agreed(job, journal.done, second) if second else journal.done
    write_signed(run.bags, found, inputs)
    journal.path.unlink(missing_ok=True)


def _agreed(job: Job, bags: Sequence[Bag], second: VideoCLIP) -> list[Bag]:
    """The bags without the texts that the backbone or the second model finds far from their video."""
    config, videos = job.config, bag_videos(job, bags)

    def asked(model: VideoCLIP) -> tuple[np.ndarray, Callable[[Sequence[str]], np.ndarray]]:
        kept, z_v = embed(job, model, videos, config.match.n_frames)
        found = {v.id: z for v, z in zip(kept, z_v, strict=True)}
        # A video that can no longer be read is near to nothing.
        rows = np.stack([found.get(v.id, np.zeros(z_v.shape[1], np.float32)) for v in videos])
        return rows, lambda texts: label_embeddings(model, texts, [config.eval.prompt]).numpy()

    models = [asked(job.model()), asked(second)]
    return near_texts(bags, models, far=config.bag.far, seed=config.seed)
