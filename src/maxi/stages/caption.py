"""Caption: say in sentences what the frames of every video of a run show."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

from maxi.errors import MaxiError
from maxi.files import digest
from maxi.method import captioning
from maxi.records import Caption, Journal, Skipped, Video, read_jsonl
from maxi.run import is_current, write_signed
from maxi.stages.expand import asked_of_models, with_files
from maxi.stages.job import Job, videos_key, without
from maxi.text.chat import tell

logger = logging.getLogger(__name__)

MAX_SILENT = 0.2  # a larger share of videos without captions is warned of


def caption_run(job: Job) -> list[Caption]:
    """Write `captions.jsonl`, the captions of uniform frames of every video, and return its rows.

    An interrupted stage goes on with the videos that have no captions yet.
    """
    run, caption_config = job.run, job.config.caption
    videos = read_jsonl(run.manifest, Video)
    inputs = {
        "manifest.jsonl": videos_key(videos),
        "backbone": job.fingerprint,
        "settings": with_files(
            caption_config.model_dump(), captioning.source_files(caption_config.captioner)
        ),
        **asked_of_models(job, caption_config.captioner),
    }
    if is_current(run.captions, inputs):
        return read_jsonl(run.captions, Caption)
    if caption_config.captioner == "none":
        write_signed(run.captions, [], inputs)
        return []
    context = captioning.CaptionContext(job.model(), job.config.chat)
    captioner, sees = captioning.make_captioner(caption_config.captioner, context)
    source = caption_config.captioner.partition(":")[0]
    journal = Journal(run.journal(run.captions), Caption, digest(inputs))
    done = {row.video for row in journal.done}
    size = captioner.n_videos if isinstance(captioner, captioning.Together) else 1
    todo = captioning.unfinished(videos, done, size)
    requests = [captioning.request(v, caption_config.n_frames) for v in todo] if sees else []
    answers: Iterable[Any] = job.decoder.map(requests) if sees else ((None, None) for _ in todo)
    failed = []
    try:
        pairs = iter(job.progress(zip(todo, answers, strict=True), len(todo), "caption"))
        while chunk := [(video, frames) for video, (_, frames) in islice(pairs, size)]:
            errors = [(v, f) for v, f in chunk if isinstance(f, MaxiError)]
            failed += [Skipped(v.path, "unreadable", str(error)) for v, error in errors]
            readable = [(v, f) for v, f in chunk if not isinstance(f, MaxiError)]
            described = captioning.describe(captioner, readable) if readable else []
            for (video, _), captions in zip(readable, described, strict=True):
                if video.id not in done:
                    journal.add(Caption(video.id, captions, source))
    finally:
        journal.close()
    without(job, videos, failed)
    rows = sorted(journal.done, key=lambda row: row.video)
    if (n_silent := sum(not row.captions for row in rows)) > MAX_SILENT * len(rows):
        logger.warning(
            "%s said nothing of %d of %d videos", caption_config.captioner, n_silent, len(rows)
        )
    write_signed(run.captions, rows, inputs)
    journal.path.unlink(missing_ok=True)
    return rows


def plan_caption(job: Job) -> list[str]:
    """Return what `caption` would ask of a server at most, in one line, without asking; [] when it asks none."""
    caption_config = job.config.caption
    videos = read_jsonl(job.run.manifest, Video)
    n_frames = sum(
        len(captioning.request(v, caption_config.n_frames).indices or ()) for v in videos
    )
    cost = captioning.captioning_cost(caption_config.captioner, n_frames, job.config.chat)
    return [f"{caption_config.captioner}: {tell(cost)}"] if cost else []
