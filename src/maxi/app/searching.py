"""The page that finds videos, and moments in them, by a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from maxi.app.desk import Desk
from maxi.features.embedding import prepare
from maxi.models.text_embeddings import embed_texts
from maxi.records import Video
from maxi.text.clean import clean, with_name
from maxi.video.decode import centre_indices
from maxi.video.workers import Request

N_BEST = 24
N_MOMENTS = 16  # frames of a video among which a moment is found
AROUND = 2.0  # seconds that are played before and after a moment
MOST_KEPT = 500  # videos whose frames are kept as embeddings

Sentence = Annotated[str, Field(min_length=1, max_length=1000)]


class Query(BaseModel):
    """A sentence, and of one video in which its moment is to be found, the id."""

    text: Sentence
    video: str = ""


def search(desk: Desk, data: Query) -> dict[str, Any]:
    """Return the videos of the sample nearest to a sentence, from stored features: no video is decoded."""
    cosines = desk.sample.z_v["adapted"] @ _embedded(desk, data.text)
    order = np.argsort(-cosines, kind="stable")[:N_BEST]
    return {
        "n_videos": len(cosines),
        "n_all": len(desk.videos),
        "found": [
            {
                "video": desk.sample.videos[i].id,
                "path": desk.sample.videos[i].path,
                "file": Path(desk.sample.videos[i].path).name,
                "score": round(float(cosines[i]), 3),
            }
            for i in order
        ],
    }


def moment(desk: Desk, data: Query) -> dict[str, Any]:
    """Return the second at which a video is nearest to a sentence, and the part around it to play.

    Raises MaxiError when the video no longer decodes.
    """
    video = desk.video(data.video)
    indices = centre_indices(video.n_frames, N_MOMENTS)
    best = int((_embedded_frames(desk, video, indices) @ _embedded(desk, data.text)).argmax())
    seconds = indices[best] / video.fps if video.fps else 0.0
    return {
        "seconds": round(seconds, 1),
        "start": round(max(0.0, seconds - AROUND), 1),
        "end": round(seconds + AROUND, 1),
    }


def _embedded_frames(desk: Desk, video: Video, indices: list[int]) -> np.ndarray:
    """Return the embeddings of some frames of a video (T, D), which are kept for a while."""
    with desk.models:
        if video.id in desk.frames:
            desk.frames.move_to_end(video.id)
            return desk.frames[video.id]
    frames = desk.job.decoder.one(Request.of(video, indices))
    assert isinstance(frames, np.ndarray)
    with desk.models, torch.inference_mode():
        pixels = prepare(desk.model, frames)[:, None]  # (T, 1, 3, S, S)
        desk.frames[video.id] = embedded = desk.model.encode_video(pixels).float().cpu().numpy()
        while len(desk.frames) > MOST_KEPT:
            desk.frames.popitem(last=False)
    return np.asarray(embedded)


def _embedded(desk: Desk, text: str) -> np.ndarray:
    """Return the embedding of a sentence (D,), in the prompt of the evaluation."""
    with desk.models:
        texts = [with_name(desk.job.config.eval.prompt, clean(text, 1000))]
        return np.asarray(embed_texts(desk.model, texts).numpy()[0])
