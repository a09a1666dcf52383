"""Export: what the adapted model says of a run's videos, for other tools."""

from __future__ import annotations

from pathlib import Path

from maxi.errors import MaxiError
from maxi.files import refuse_full
from maxi.method.classification import Tuning
from maxi.method.shares import soft
from maxi.models.text_embeddings import embed_names
from maxi.records import Video, read_jsonl
from maxi.reports.exports import FORMS, Segment
from maxi.reports.refinement import load_refinement
from maxi.stages.embedding import embed
from maxi.stages.job import Job


def export_run(job: Job, form: str, out: Path, *, plain: bool = False) -> Path:
    """Write a row for each video of a run into the new folder `out`, and return the file; stored features are used.

    The refinement of the run is used, unless `plain`. Raises MaxiError when there is no model, when the folder is not
    empty, or when the refinement is of other weights.
    """
    run, config, names = job.run, job.config, job.names()
    if not run.model.is_dir():
        raise MaxiError(f"{run.folder} holds no model; run `maxi train` first")
    refuse_full(out)
    model = job.model(run.model)
    videos, z_v = embed(job, model, read_jsonl(run.manifest, Video), config.eval.n_frames)
    cosines = z_v @ embed_names(model, names, [config.eval.prompt]).T
    tuning = Tuning(1 / float(model.logit_scale.exp()))
    if not plain and (loaded := load_refinement(run)):
        tuning = loaded.tuning(run, model.backbone.fingerprint(), names)
    shares = soft(tuning.logits(z_v, cosines))
    segments = [
        Segment(
            video.id,
            str(Path(video.path).resolve()),
            0.0,
            round(video.n_frames / video.fps, 2) if video.fps else 0.0,
            names[int(row.argmax())],
            round(float(row.max()), 4),
            tuning.is_none(float(best)),
        )
        for video, row, best in zip(videos, shares, cosines.max(1), strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    return FORMS[form](out, segments, names)
