"""Ensemble: measure weights between the frozen and the fine-tuned model, or save one such mixture as a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maxi.documents import Trained, read_document
from maxi.errors import MaxiError
from maxi.files import refuse_full, write_json
from maxi.method import evaluation
from maxi.method.metrics import with_interval
from maxi.models.load import saved_beside
from maxi.models.video_clip import VideoCLIP
from maxi.records import Bag, Video, read_jsonl
from maxi.run import require
from maxi.stages.embedding import Member, embed_by
from maxi.stages.evaluate import class_embeddings
from maxi.stages.inputs import videos_key
from maxi.stages.job import Job, fresh_model
from maxi.stages.train import training_inputs
from maxi.training.checkpoints import interpolate

ALPHAS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)


def ensemble_run(job: Job, alphas: Sequence[float] = ALPHAS) -> list[dict[str, Any]]:
    """Write `ensemble.json`: accuracy of (1 - alpha) x frozen + alpha x fine-tuned weights on labelled videos.

    Every video is decoded once for all ratios; gains are paired with the frozen model on the same videos. Raises
    MaxiError when the run has no labelled videos, or when its last checkpoint is gone.
    """
    run, config = job.run, job.config
    if not run.eval.manifest.exists():
        raise MaxiError(f"{run.folder} has no labelled videos; name some with --on")
    videos = read_jsonl(run.eval.manifest, Video)
    names = sorted({str(v.label) for v in videos})
    members = mixtures(job, sorted({0.0, *alphas}))
    readable, z_v = embed_by(
        job, members, videos, config.eval.n_frames, views=config.eval.views, label="ensemble"
    )
    labels = evaluation.label_indices(readable, names)
    rows: list[dict[str, Any]] = []
    frozen = None
    for kind, member in members.items():
        scores = z_v[kind] @ class_embeddings(job, member.ready(), names).T
        frozen = scores if frozen is None else frozen
        gain = evaluation.compare(frozen, scores, labels)["top1"]
        row = {"alpha": float(kind), **evaluation.evaluate(scores, labels, names)}
        rows.append({**row, "gain": gain})
    conditions = {
        "prompt": config.eval.prompt,
        "name_texts": config.eval.name_texts,
        "n_frames": config.eval.n_frames,
        "views": config.eval.tell_views(),
        "videos": videos_key(readable),
        "backbone": config.backbone,
    }
    write_json(run.ensemble, {"rows": rows, "conditions": conditions})
    return rows


def lines_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the rows of `ensemble_run` as lines for the terminal."""
    yield f"alpha  top-1   top-5   gain in top-1   on {rows[0]['n']:,} labelled videos"
    for row in rows:
        gain = with_interval(row["gain"]["gain"], row["gain"]["interval"])
        beside = gain if row["alpha"] else "frozen"
        yield f"{row['alpha']:5.2f}  {row['top1']:5.1f}   {row['top5']:5.1f}   {beside}"


def save_between(job: Job, alpha: float, folder: Path) -> None:
    """Write the model with the share `alpha` of the fine-tuned weights into a new folder."""
    refuse_full(folder)
    ends = _ends(job)
    ends.become(alpha)
    ends.model.save(folder)


def mixtures(job: Job, alphas: Sequence[float]) -> dict[str, Member]:
    """Return models between the frozen and the fine-tuned one, by their share alpha of the latter's weights.

    They share the memory of one model. Raises MaxiError when the run's last checkpoint is gone.
    """
    ends = _ends(job)
    return {
        str(alpha): Member(
            str(job.run.folder), ends.model, partial(ends.become, alpha), {"alpha": alpha}
        )
        for alpha in alphas
    }


@dataclass(frozen=True)
class _Ends:
    """A model, and on the CPU its trained parameters before and after training.

    `temporal` is the number of its temporal blocks before and after training.
    """

    model: VideoCLIP
    original: dict[str, Tensor]
    tuned: dict[str, Tensor]
    temporal: tuple[int, int]

    @torch.no_grad()
    def become(self, alpha: float) -> None:
        """Give the model the weights at `alpha`; at 0 it is the frozen model, also in its temporal blocks."""
        parameters = dict(self.model.named_parameters())
        for name, value in interpolate(self.original, self.tuned, alpha).items():
            parameters[name].copy_(value)
        if blocks := self.model.backbone.image_blocks:
            blocks.temporal = self.temporal[alpha > 0]


def _ends(job: Job) -> _Ends:
    """Load the frozen and the fine-tuned weights. Raises MaxiError when the run has no checkpoint of the latter."""
    run = job.run
    require(run.training, "train", training_inputs(job, read_jsonl(run.bags, Bag)).key)
    file = run.checkpoints / read_document(run.training, Trained)["finetuned"]
    if not file.is_file():
        raise MaxiError(
            f"{run.folder}: no fine-tuned weights in checkpoints/; run `maxi train` again"
        )
    model = fresh_model(job.config)
    parameters = dict(model.named_parameters())
    try:
        tuned = load_file(file)
    except (OSError, SafetensorError) as error:
        raise MaxiError(f"{file}: cannot be read ({error}); run `maxi train` again") from error
    if tuned.keys() - parameters.keys():
        raise MaxiError(f"{file}: weights of another model; run `maxi train` again")
    original = {name: parameters[name].detach().cpu().clone() for name in tuned}
    blocks = model.backbone.image_blocks
    before = blocks.temporal if blocks else 0
    after = saved_beside(str(run.model)).temporal_blocks
    return _Ends(model, original, tuned, temporal=(before, after))
