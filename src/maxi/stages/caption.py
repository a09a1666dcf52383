"""Caption: say in sentences what the frames of every video of a run show."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from maxi.errors import MaxiError
from maxi.files import digest
from maxi.method import captioning
from maxi.records import Caption, Journal, Skipped, Video, read_jsonl
from maxi.run import made_from, write_signed
from maxi.stages.expand import asks_models
from maxi.stages.inputs import Inputs
from maxi.stages.job import Job, without
from maxi.text.chat import tell

logger = logging.getLogger(__name__)

MAX_SILENT = 0.2  # a larger share of videos without captions is warned of


def caption_run(job: Job) -> list[Caption]:
    """Write `captions.jsonl`, the captions of uniform frames of every video, and return its rows.

    An interrupted stage goes on with the videos that have no captions yet. Where only the list of videos has changed,
    the captions of the videos that are still there are kept.
    """
    run, inputs = job.run, caption_settings(job)
    config, model = inputs.settings("caption"), inputs.backbone()
    inputs.files(*captioning.source_files(config.captioner))
    videos = inputs.videos()
    if not captioning.sees_frames(config.captioner):
        inputs.note("paths", [video.path for video in videos])
    of_each_video = {k: v for k, v in inputs.key.items() if k != "manifest.jsonl"}
    if inputs.made(run.captions):
        return read_jsonl(run.captions, Caption)
    if config.captioner == "none":
        write_signed(run.captions, [], inputs.key)
        return []
    context = captioning.CaptionContext(model, job.config.chat)
    captioner, sees = captioning.make_captioner(config.captioner, context)
    source = config.captioner.partition(":")[0]
    earlier = read_jsonl(run.captions, Caption) if made_from(run.captions, of_each_video) else []

    def unanswered(captions: Sequence[str]) -> bool:
        """Tell whether a server said nothing of a video; it is asked again by the next run."""
        return source == "openai" and not captions

    journal = Journal(run.journal(run.captions), Caption, digest(of_each_video))
    done = {r.video: r for r in (*earlier, *journal.done) if not unanswered(r.captions)}
    size = captioner.n_videos if isinstance(captioner, captioning.Together) else 1
    todo = captioning.unfinished(videos, done, size)
    requests = [captioning.request(v, config.n_frames) for v in todo] if sees else []
    answers: Iterable[Any] = job.decoder.map(requests) if sees else ((None, None) for _ in todo)
    failed = []
    try:
        pairs = iter(job.progress(zip(todo, answers, strict=True), len(todo), "caption"))
        while chunk := [(video, frames) for video, (_, frames) in islice(pairs, size)]:
            errors = [(v, f) for v, f in chunk if isinstance(f, MaxiError)]
            failed += [Skipped.unreadable(v.path, error) for v, error in errors]
            readable = [(v, f) for v, f in chunk if not isinstance(f, MaxiError)]
            described = captioning.describe(captioner, readable) if readable else []
            for (video, _), captions in zip(readable, described, strict=True):
                if video.id not in done:
                    done[video.id] = Caption(video.id, captions, source)
                    if not unanswered(captions):
                        journal.add(done[video.id])
    finally:
        journal.close()
    without(job, videos, failed)
    rows = [done[video.id] for video in videos if video.id in done]
    n_silent = sum(not row.captions for row in rows)
    if source == "openai" and rows and n_silent == len(rows):
        raise MaxiError(
            f"{config.captioner}: all replies were empty; check that the model sees images, and the log of the server, "
            "or name another captioner"
        )
    if n_silent > MAX_SILENT * len(rows):
        logger.warning("%s said nothing of %d of %d videos", config.captioner, n_silent, len(rows))
    is_whole = not any(unanswered(row.captions) for row in rows)
    write_signed(run.captions, rows, inputs.used(whole=is_whole))
    journal.path.unlink(missing_ok=True)
    return rows


def caption_settings(job: Job) -> Inputs:
    """Return the settings that `caption` reads."""
    inputs = Inputs(job)
    if asks_models(inputs.settings("caption").captioner):
        inputs.settings("chat")
    return inputs


def caption_inputs(job: Job) -> Inputs:
    """Return what `caption` reads, except the backbone and the files of its source."""
    inputs = caption_settings(job)
    inputs.videos()
    return inputs


def plan_caption(job: Job) -> list[str]:
    """Return what `caption` would ask of a server at most, in one line, without asking; [] when it asks none."""
    caption_config = job.config.caption
    videos = read_jsonl(job.run.manifest, Video)
    n_frames = len(videos) * caption_config.n_frames
    cost = captioning.captioning_cost(caption_config.captioner, n_frames, job.config.chat)
    return [f"{caption_config.captioner}: {tell(cost)}"] if cost else []
