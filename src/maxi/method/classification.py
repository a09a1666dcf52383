"""Classify: find the names nearest to a video, or to each window of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maxi.errors import MaxiError
from maxi.features.embedding import prepare
from maxi.files import csv_text
from maxi.method.mixture import Array, Linear
from maxi.models.text_embeddings import embed_names, embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.text.clean import with_name
from maxi.video.decode import Probe, centre_indices
from maxi.video.timing import Window, cut
from maxi.video.upright import returned_size
from maxi.video.workers import Decoder, Request

NEAR = 10  # of the other actions, as many nearest to each name are left out
FRAMES_AT_ONCE = 2**30  # bytes of decoded frames held for one request


@dataclass(frozen=True)
class Prediction:
    """The best names of one window, with their cosines, and their softmax scores over all names.

    `start` and `end` are in seconds from the first frame of the video. `none` is the share of other everyday actions
    that fit the window better than its best name: near 0 the name stands out, near 0.5 it fits no better than any
    action. It is a rank, not a calibrated probability. `is_none` says whether the best cosine is below the limit of a
    refinement, so that none of the names is shown.
    """

    path: str
    start: float
    end: float
    names: tuple[str, ...]
    scores: tuple[float, ...]
    cosines: tuple[float, ...]
    none: float | None = None
    is_none: bool | None = None


class Tuning(NamedTuple):
    """What a refinement changes: the temperature, the limit for none, and the scores of the names it was made for."""

    tau: float
    limit: float | None = None
    linear: Linear | None = None

    def logits(self, z_v: Array, cosines: Array) -> Array:
        """Return the logits of videos z_v (V, D) from their cosines with the names, (V, K).

        Raises MaxiError when the refinement is for features of another size.
        """
        if self.linear is None:
            return np.asarray(cosines / np.float32(self.tau))
        if len(self.linear.slopes) != z_v.shape[1]:
            raise MaxiError(
                f"the refinement is for features of {len(self.linear.slopes)} numbers, not of {z_v.shape[1]}; run "
                "`maxi refine` again, or add --plain"
            )
        return self.linear.compare(z_v)

    def is_none(self, best: float) -> bool | None:
        """Return whether the best cosine of a video is too small for any name; None where no limit is known."""
        return None if self.limit is None else bool(best < self.limit)


class Classifier:
    """A model and the embeddings of the names that it chooses from; `{}` in `prompt` stands for the name.

    `others` are names of other actions, from which `Prediction.none` is computed. The `NEAR` of them that are nearest
    to each name are left out, since they may mean the same. `tuning` is that of a refinement. Raises MaxiError when
    there is no name.
    """

    def __init__(
        self,
        model: VideoCLIP,
        names: Sequence[str],
        *,
        prompt: str = "a photo of {}.",
        n_frames: int = 16,
        k: int = 5,
        others: Sequence[str] = (),
        tuning: Tuning | None = None,
    ) -> None:
        if not names:
            raise MaxiError("classify needs at least one action name; add one")
        self.model, self.names, self.n_frames = model, list(names), n_frames
        self.k = min(k, len(self.names))
        self.tuning = tuning or Tuning(1 / float(model.logit_scale.exp()))
        self.z_l = torch.from_numpy(embed_names(model, self.names, [prompt]))  # (K, D)
        self.z_others = None
        if len(others) > NEAR:
            z_others = embed_texts(model, [with_name(prompt, other) for other in others])  # (O, D)
            nearest = (self.z_l @ z_others.T).topk(NEAR).indices  # (K, NEAR)
            is_far = torch.ones(len(others), dtype=torch.bool)
            is_far[nearest.flatten()] = False
            self.z_others = z_others[is_far] if is_far.any() else None

    def windows(self, path: str, decoder: Decoder, seconds: float) -> Iterator[Prediction]:
        """Yield a prediction for each window of about `seconds`; a shorter video is one window.

        All windows of a video have the same length. Which frames are in a window, their own time stamps say, so that it
        is right for a variable frame rate too. Raises MaxiError when the file cannot be decoded.
        """
        probe = decoder.one(Request(path))
        assert isinstance(probe, Probe)
        windows = cut(probe.times, seconds)
        height, width = returned_size(probe.height, probe.width)
        n_at_once = max(1, FRAMES_AT_ONCE // (height * width * 3 * self.n_frames))
        for i in range(0, len(windows), n_at_once):
            group = windows[i : i + n_at_once]
            indices = [
                start + index
                for start, end in (window.frames for window in group)
                for index in centre_indices(end - start, self.n_frames)
            ]
            # Each group begins at a keyframe, so that a long file is not decoded from its beginning for each.
            frames = decoder.one(Request(path, tuple(indices), probe.entry(min(indices))))
            assert isinstance(frames, np.ndarray)
            for window, clip in zip(group, np.split(frames, len(group)), strict=True):
                yield self._predict(path, clip, window)

    @torch.inference_mode()
    def _predict(self, path: str, frames: np.ndarray, window: Window) -> Prediction:
        """Return the prediction for a window with these frames."""
        z_v = self.model.encode_video(prepare(self.model, frames)[None])  # (1, D)
        z_v = z_v.float().cpu()
        cosines: Tensor = (z_v @ self.z_l.T)[0]  # (K,)
        logits = torch.from_numpy(self.tuning.logits(z_v.numpy(), cosines[None].numpy())[0])
        scores = logits.softmax(0)
        best = logits.argsort(descending=True, stable=True)[: self.k].tolist()
        return Prediction(
            path,
            round(window.start, 2),
            round(window.end, 2),
            tuple(self.names[k] for k in best),
            tuple(round(float(scores[k]), 4) for k in best),
            tuple(round(float(cosines[k]), 4) for k in best),
            None if self.z_others is None else _share_above(z_v, self.z_others, cosines.max()),
            self.tuning.is_none(float(cosines.max())),
        )


def _share_above(z_v: Tensor, z_others: Tensor, best: Tensor) -> float:
    """Return the share of other actions (O, D) whose cosine with z_v (1, D) is above that of the best name."""
    return round(float((z_v @ z_others.T > best).float().mean()), 4)


def classify(
    path: str | Path,
    model: VideoCLIP,
    actions: Sequence[str],
    *,
    prompt: str = "a photo of {}.",
    n_frames: int = 16,
    k: int = 5,
    window: float = 0.0,
) -> list[Prediction]:
    """Return the `k` best names for a video, or for each window of about `window` seconds; see `Classifier`.

    Raises MaxiError when there is no name or the file cannot be decoded.
    """
    classifier = Classifier(model, actions, prompt=prompt, n_frames=n_frames, k=k)
    with Decoder(1) as decoder:
        return list(classifier.windows(str(path), decoder, window))


def lines_of(rows: Iterable[Prediction | MaxiError], form: str) -> Iterator[str]:
    """Yield predictions as lines of `text`, `csv` (one row per window and name) or `json`.

    In `json` a file that failed is a line with its error; in the other forms it is left out.
    """
    if form == "csv":
        yield "path,start,end,rank,name,score,cosine,none,is_none"
    for row in rows:
        if form == "json":
            fields = {"error": str(row)} if isinstance(row, MaxiError) else asdict(row)
            yield json.dumps(fields, ensure_ascii=False)
        elif isinstance(row, MaxiError):
            continue  # the caller reports the error on stderr, where it does not disturb a table
        elif form == "csv":
            yield from _csv_lines(row)
        else:
            none = "" if row.none is None else f"  none of these: {row.none:.1%}"
            none += "  seems to show none of these" if row.is_none else ""
            yield f"{row.path}  {row.start:.1f}-{row.end:.1f} s{none}"
            for name, score, cosine in zip(row.names, row.scores, row.cosines, strict=True):
                yield f"  {score:6.1%}  {name}  (cosine {cosine:.3f})"


def _csv_lines(row: Prediction) -> Iterator[str]:
    answers = enumerate(zip(row.names, row.scores, row.cosines, strict=True), 1)
    window, none = (row.path, row.start, row.end), (row.none, row.is_none)
    table = ((*window, rank, *best, *none) for rank, best in answers)
    yield csv_text(table).rstrip("\n")
