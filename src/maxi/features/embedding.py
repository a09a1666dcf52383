"""Embed videos: read frames, compute features, and keep them in a store, each video once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maxi.errors import MaxiError
from maxi.features.store import ROWS, FeatureStore
from maxi.models.backbone import Backbone
from maxi.models.saving import weights_digest
from maxi.models.text_embeddings import finite
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress
from maxi.records import Skipped, Video
from maxi.video.decode import Probe, centre_indices
from maxi.video.transforms import eval_transform, normalise
from maxi.video.workers import Decoder, Request


def trunk_digest(backbone: Backbone) -> str:
    """Return 16 hex digits that change with all that an image's trunk features depend on, but not with the heads."""
    # The temperature does not touch image features.
    return weights_digest(backbone, without=[*backbone.head_parameters(), "model.logit_scale"])


Frames = NDArray[np.uint8]
Row = Callable[[Frames, Video], Tensor]

CHUNK = 8  # videos whose frames are held while several models read them in turn

ONE_VIEW = (1, 1)
CROPS = {1: (0.5,), 3: (0.0, 0.5, 1.0)}
"""Where crops lie along the longer side of a frame, by their number."""


def read_frames(path: str | Path, n_frames: int = 16) -> Tensor:
    """Read the frames at the centres of `n_frames` equal segments of a video: uint8 (T, C, H, W), RGB.

    The file is decoded in a process of its own. Raises MaxiError when it cannot be decoded.
    """
    with Decoder(1) as decoder:
        probe = decoder.one(Request(path))
        assert isinstance(probe, Probe)
        frames = decoder.one(Request(path, tuple(centre_indices(probe.n_frames, n_frames))))
    return torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2)


def prepare(model: VideoCLIP, frames: Frames, place: float = 0.5) -> Tensor:
    """Resize, crop and normalise decoded frames (T, H, W, 3) to the model's pixels (T, 3, S, S).

    The crop is in the centre, or at another `place` along the longer side; see `eval_transform`.
    """
    backbone = model.backbone
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)
    size, resize_to = backbone.image_size, backbone.resize_to
    return to_pixels(model, eval_transform(images, size, resize_to=resize_to, place=place))


def to_pixels(model: VideoCLIP, images: Tensor) -> Tensor:
    """Move uint8 images (..., C, S, S) to the model's device, and normalise them as the backbone needs: float32."""
    return normalise(images.to(model.device), model.backbone.mean, model.backbone.std)


@torch.inference_mode()
def embed_videos(
    model: VideoCLIP, videos: Sequence[Video], n_frames: int = 16
) -> NDArray[np.float32]:
    """Return z_v (V, D), unit norm, from frames at the centres of `n_frames` equal segments (section 3.1).

    Raises MaxiError for a video that can no longer be decoded.
    """
    requests = (Request.of(v, centre_indices(v.n_frames, n_frames)) for v in videos)
    rows = []
    with Decoder() as decoder:
        for request, frames in decoder.map(requests):
            if not isinstance(frames, np.ndarray):
                raise MaxiError(f"{request.path} can no longer be read ({frames}); leave it out")
            rows.append(model.encode_video(prepare(model, frames)[None])[0].float().cpu())
    return finite(torch.stack(rows), "videos").numpy()


class Filler(NamedTuple):
    """What fills a store: the row of a video's frames, and what must be done before rows are asked for."""

    store: FeatureStore
    row: Row
    ready: Callable[[], object] | None = None


def embedder(model: VideoCLIP, *, trunk: bool, views: tuple[int, int]) -> Row:
    """Return the function that turns the frames of a video into its z_v (D,), or with `trunk` their features (T, F).

    With several `views` (clips, and crops of each) z_v is the mean of the z_v of the views, so that its cosines are the
    means of theirs. Each video has its own forward passes, so that its row never depends on other videos.
    """
    n_clips, n_crops = views
    places = CROPS[n_crops]

    def row(frames: Frames, _: Video) -> Tensor:
        if trunk:
            return model.video_trunk(prepare(model, frames)[None])[0]
        clips = np.split(frames, n_clips)
        pairs = [prepare(model, clip, place) for clip in clips for place in places]
        z_v = torch.stack([model.encode_video(pixels[None])[0] for pixels in pairs])
        return z_v.mean(0) if len(z_v) > 1 else z_v[0]

    return row


@torch.inference_mode()
def fill_stores(
    videos: Sequence[Video],
    fillers: Sequence[Filler],
    decoder: Decoder,
    indices: Callable[[Video], list[int]],
    what: str,
    progress: Progress,
) -> list[Skipped]:
    """Store the rows of each video that a store lacks, from the frames at `indices(video)`.

    Each video is decoded once for all stores. `what` names the work in the progress bar. Returns the videos that can no
    longer be decoded.
    """
    missing = [v for v in videos if any(v.id not in filler.store for filler in fillers)]
    requests = (Request.of(v, indices(v)) for v in missing)
    skipped = []
    results = zip(missing, decoder.map(requests), strict=True)
    shown: Iterator[tuple[Video, tuple[Request, Any]]]
    shown = iter(progress(results, len(missing), what) if missing else ())
    # A model that is made ready anew for each video would cost more than the video.
    size = CHUNK if any(filler.ready for filler in fillers) else 1
    while chunk := list(islice(shown, size)):
        skipped += [
            Skipped.unreadable(video.path, answer)
            for video, (_, answer) in chunk
            if isinstance(answer, MaxiError)
        ]
        for filler in fillers:
            if filler.ready:
                filler.ready()
            for video, (_, frames) in chunk:
                if isinstance(frames, np.ndarray) and video.id not in filler.store:
                    _keep(filler, frames, video)
    return skipped


def _keep(filler: Filler, frames: Frames, video: Video) -> None:
    features = filler.row(frames, video).float().cpu().numpy()
    if not np.isfinite(features).all():
        raise MaxiError(
            f"{video.path}: its features are not finite; check the weights of the backbone"
        )
    filler.store.append(video.id, features)


@torch.inference_mode()
def embeddings(
    model: VideoCLIP, store: FeatureStore, videos: Sequence[str], *, trunk: bool
) -> NDArray[np.float32]:
    """Return z_v (V, D) of stored videos, in the order of `videos`.

    With `trunk` the store holds the trunk features of frames, and the model's head is applied to them.
    """
    if not trunk:
        return store.gather(videos)
    chunks = [
        model.embed_features(torch.from_numpy(store.gather(videos[i : i + ROWS])).to(model.device))
        for i in range(0, len(videos), ROWS)
    ]
    return finite(torch.cat(chunks).float().cpu(), "videos").numpy()
