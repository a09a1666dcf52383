"""Export: what the adapted model says of a run's videos, for other tools."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from maxi.errors import MaxiError
from maxi.files import refuse_full
from maxi.method.classification import Classifier, Tuning
from maxi.method.shares import soft
from maxi.models.text_embeddings import embed_names
from maxi.models.video_clip import VideoCLIP
from maxi.records import Video, read_jsonl
from maxi.reports.exports import FORMS, Segment
from maxi.reports.refinement import load_refinement
from maxi.stages.embedding import embed
from maxi.stages.job import Job

logger = logging.getLogger(__name__)


def export_run(job: Job, form: str, out: Path, *, plain: bool = False, window: float = 0.0) -> Path:
    """Write what the adapted model says of each video of a run into the new folder `out`, and return the file.

    With a `window` in seconds each video is decoded, and there is a row for each window; without, there is one for the
    whole video, from stored features. The refinement of the run is used, unless `plain`. Raises MaxiError when there is
    no model, when the folder is not empty, or when the refinement is of other weights.
    """
    run, names = job.run, job.names()
    if not run.model.is_dir():
        raise MaxiError(f"{run.folder} holds no model; run `maxi train` first")
    refuse_full(out)
    model = job.model(run.model)
    tuning = Tuning(1 / float(model.logit_scale.exp()))
    if not plain and (loaded := load_refinement(run)):
        tuning = loaded.tuning(run, model.backbone.fingerprint(), names)
    videos = read_jsonl(run.manifest, Video)
    if window:
        segments = list(_windows(job, model, tuning, videos, names, window))
    else:
        segments = _whole(job, model, tuning, videos, names)
    if not segments:
        raise MaxiError(f"{run.folder}: no video of it can be read any more; nothing is written")
    out.mkdir(parents=True, exist_ok=True)
    return FORMS[form](out, segments, names)


def _whole(
    job: Job, model: VideoCLIP, tuning: Tuning, videos: Sequence[Video], names: Sequence[str]
) -> list[Segment]:
    """Return a segment for each video, from stored features."""
    videos, z_v = embed(job, model, videos, job.config.eval.n_frames)
    cosines = z_v @ embed_names(model, names, [job.config.eval.prompt]).T
    shares = soft(tuning.logits(z_v, cosines))
    return [
        Segment(
            video.id,
            str(Path(video.path).resolve()),
            video.start or 0.0,
            round((video.start or 0.0) + video.seconds, 2),
            names[int(row.argmax())],
            round(float(row.max()), 4),
            tuning.is_none(float(best)),
            features,
        )
        for video, row, best, features in zip(videos, shares, cosines.max(1), z_v, strict=True)
    ]


def _windows(
    job: Job,
    model: VideoCLIP,
    tuning: Tuning,
    videos: Sequence[Video],
    names: Sequence[str],
    seconds: float,
) -> Iterator[Segment]:
    """Yield a segment for each window of the files; one that can no longer be read is left out with a warning."""
    config = job.config.eval
    classifier = Classifier(
        model, names, prompt=config.prompt, n_frames=config.n_frames, k=1, tuning=tuning
    )
    files = {video.path: video for video in videos}  # of a file with several segments one
    for video in job.progress(files.values(), len(files), "export"):
        try:
            for found in classifier.windows(video.path, job.decoder, seconds):
                yield Segment(
                    video.content if video.cut else video.id,
                    str(Path(video.path).resolve()),
                    found.start,
                    found.end,
                    found.names[0],
                    found.scores[0],
                    found.is_none,
                )
        except MaxiError as error:
            logger.warning("%s; it is left out", error)
