"""Embeddings of videos and names: in memory, or computed once into an append-only store on disk."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maxi.errors import MaxiError
from maxi.models.backbone import Backbone
from maxi.models.text_embeddings import label_embeddings
from maxi.models.video_clip import VideoCLIP
from maxi.progress import Progress
from maxi.randomness import generator
from maxi.records import Skipped, Video
from maxi.video.decode import Probe, centre_indices, tsn_indices
from maxi.video.transforms import SCALES, eval_transform, normalise, train_transform
from maxi.video.workers import Decoder, Request

ROWS = 1024  # stored rows handled at a time


class FeatureStore:
    """Float32 rows of one shape by video id, in `<key>.f32` and `<key>.ids`, appended as they are made.

    The first line of `.ids` is the rows' shape. An interruption loses at most the row in work: what the two files do
    not both hold whole is cut off on opening.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data_path, self._ids_path = folder / f"{key}.f32", folder / f"{key}.ids"
        for path in (self._data_path, self._ids_path):
            path.touch()
        head, *ids = self._ids_path.read_bytes().split(b"\n")[:-1] or [b""]
        self.shape = tuple(int(n) for n in head.split())
        whole = [i.decode("ascii") for i in ids]
        whole = whole[: self._data_path.stat().st_size // self._row_bytes()]
        os.truncate(self._data_path, len(whole) * self._row_bytes())
        os.truncate(
            self._ids_path, sum(len(i) + 1 for i in (head, *ids[: len(whole)])) if head else 0
        )
        self._rows = {video: row for row, video in enumerate(whole)}
        self._data = self._data_path.open("ab")
        self._ids = self._ids_path.open("ab")

    def _row_bytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __contains__(self, video: str) -> bool:
        return video in self._rows

    def append(self, video: str, row: NDArray[np.float32]) -> None:
        line = f"{video}\n"
        if not self.shape:
            self.shape = row.shape
            line = " ".join(map(str, row.shape)) + "\n" + line
        assert row.shape == self.shape, (row.shape, self.shape)
        self._data.write(np.ascontiguousarray(row, dtype=np.float32).tobytes())
        self._data.flush()
        self._ids.write(line.encode("ascii"))
        self._ids.flush()
        self._rows[video] = len(self._rows)

    def gather(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """Rows of these videos, in their order: (n, *shape)."""
        if not videos:
            return np.empty((0, *self.shape), dtype=np.float32)
        found = np.empty((len(videos), *self.shape), dtype=np.float32)
        for i in range(0, len(videos), ROWS):
            # Mapped anew each time: the pages of a mapping that stays add up to a second copy in memory.
            data = np.memmap(self._data_path, np.float32, "r", shape=(len(self._rows), *self.shape))
            part = [self._rows[v] for v in videos[i : i + ROWS]]
            found[i : i + ROWS] = data[part]
        return found

    def close(self) -> None:
        # A full disk may fail the flush again; it has been reported by the write that failed first.
        for file in (self._data, self._ids):
            with suppress(OSError):
                file.close()


def n_stored(folder: Path, key: str) -> int:
    """Rows of a store that may not be there, without opening it for writing."""
    path = folder / f"{key}.ids"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0


def trunk_digest(backbone: Backbone) -> str:
    """16 hex digits that change with what an image's trunk features depend on, but not with the heads."""
    apart = {*backbone.head_parameters(), "model.logit_scale"}  # no image meets CLIP's temperature
    sha = hashlib.sha256(
        repr((backbone.image_size, backbone.resize_to, backbone.mean, backbone.std)).encode()
    )
    for name, tensor in sorted(backbone.state_dict().items()):
        if name not in apart:
            sha.update(f"{name}{tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


Frames = NDArray[np.uint8]


def read_frames(path: str | Path, n_frames: int = 16) -> Tensor:
    """Frames at the centres of `n_frames` equal segments of a video: uint8 (T, C, H, W), RGB.

    Decoded in a process of its own; raises MaxiError when the file cannot be decoded.
    """
    with Decoder(1) as decoder:
        probe = decoder.one(Request(path))
        assert isinstance(probe, Probe)
        frames = decoder.one(Request(path, tuple(centre_indices(probe.n_frames, n_frames))))
    return torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2)


def prepare(model: VideoCLIP, frames: Frames) -> Tensor:
    """Decoded frames (T, H, W, 3) -> pixels (T, 3, S, S) for the model: resized, centre-cropped, normalised."""
    backbone = model.backbone
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)
    small = eval_transform(images, backbone.image_size, resize_to=backbone.resize_to)
    return to_pixels(model, small)


def augmented(
    size: int,
    frames: Frames,
    video: str,
    *,
    seed: int,
    epoch: int,
    scales: Sequence[float] = SCALES,
    device: torch.device,
) -> Tensor:
    """Decoded frames (T, H, W, 3) -> uint8 (T, 3, size, size), augmented by a draw of (seed, epoch, video).

    On `device`, or on the CPU when that has no room: training, not a clip of 4K, is to fill a GPU.
    """
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)

    def on(place: torch.device | str) -> Tensor:
        draw = generator("augment", seed, epoch, video)
        return train_transform(images.to(place), size, draw, scales)

    try:
        return on(device)
    except torch.OutOfMemoryError:
        return on("cpu")


def clip_device(model: VideoCLIP) -> torch.device:
    """Where clips are augmented: on the model's GPU, or on the CPU, since `mps` lacks antialiased resizing."""
    return model.device if model.device.type == "cuda" else torch.device("cpu")


def to_pixels(model: VideoCLIP, images: Tensor) -> Tensor:
    """uint8 (..., C, S, S) -> float32 on the model's device, normalised as the backbone has it."""
    return normalise(images.to(model.device), model.backbone.mean, model.backbone.std)


def training_indices(video: Video, n_frames: int, *, seed: int, epoch: int) -> list[int]:
    """Frames of one training clip: one random frame in each of `n_frames` segments."""
    return tsn_indices(video.n_frames, n_frames, generator("frames", seed, epoch, video.id))


@torch.inference_mode()
def embed_videos(
    model: VideoCLIP, videos: Sequence[Video], n_frames: int = 16
) -> NDArray[np.float32]:
    """z_v (V, D), unit norm, of frames at the centres of `n_frames` equal segments (section 3.1).

    Raises MaxiError for a video that can no longer be decoded.
    """
    requests = (Request(v.path, tuple(centre_indices(v.n_frames, n_frames))) for v in videos)
    rows = []
    with Decoder() as decoder:
        for request, frames in decoder.map(requests):
            if not isinstance(frames, np.ndarray):
                raise MaxiError(f"{request.path} can no longer be read ({frames}); leave it out")
            rows.append(model.encode_video(prepare(model, frames)[None])[0].float().cpu())
    return torch.stack(rows).numpy()


def embed_names(
    model: VideoCLIP, names: Sequence[str], templates: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """z_l (K, D), unit norm: the mean over prompts, by default those of the 28 templates for matching (appendix B).

    Evaluation uses one prompt, such as `["a photo of {}."]`.
    """
    return label_embeddings(model, names, templates).numpy()


def store_embeddings(
    model: VideoCLIP,
    videos: Sequence[Video],
    store: FeatureStore,
    decoder: Decoder,
    *,
    n_frames: int,
    trunk: bool,
    progress: Progress,
) -> list[Skipped]:
    """Fill the store: z_v (D,) of each video's segment centres, or with `trunk` its frames' features (T, F).

    One video is one forward pass, so that its row never depends on its neighbours. Returns the videos that can no
    longer be decoded.
    """

    def row(frames: Frames, _: Video) -> Tensor:
        pixels = prepare(model, frames)
        return (model.video_trunk if trunk else model.encode_video)(pixels[None])[0]

    return _fill(
        videos,
        store,
        decoder,
        lambda v: centre_indices(v.n_frames, n_frames),
        row,
        "embed",
        progress,
    )


def embed_views(
    model: VideoCLIP,
    videos: Sequence[Video],
    store: FeatureStore,
    decoder: Decoder,
    *,
    n_views: int,
    n_frames: int,
    seed: int,
    scales: Sequence[float] = SCALES,
    progress: Progress,
) -> list[Skipped]:
    """Fill the store with trunk features (n_views, T, F) of augmented clips; each file is decoded once."""

    def indices(video: Video) -> list[int]:
        views = range(n_views)
        return [i for k in views for i in training_indices(video, n_frames, seed=seed, epoch=k)]

    def row(frames: Frames, video: Video) -> Tensor:
        views = frames.reshape(n_views, n_frames, *frames.shape[1:])
        size, device = model.backbone.image_size, clip_device(model)
        clips = [
            augmented(size, x, video.id, seed=seed, epoch=k, scales=scales, device=device)
            for k, x in enumerate(views)
        ]
        return torch.stack([model.video_trunk(to_pixels(model, clip)[None])[0] for clip in clips])

    return _fill(videos, store, decoder, indices, row, "augmented views", progress)


@torch.inference_mode()
def _fill(
    videos: Sequence[Video],
    store: FeatureStore,
    decoder: Decoder,
    indices: Callable[[Video], list[int]],
    row: Callable[[Frames, Video], Tensor],
    what: str,
    progress: Progress,
) -> list[Skipped]:
    todo = [v for v in videos if v.id not in store]
    requests = (Request(v.path, tuple(indices(v))) for v in todo)
    failed = []
    results = zip(todo, decoder.map(requests), strict=True)
    for video, (_, frames) in progress(results, len(todo), what) if todo else ():
        if isinstance(frames, MaxiError):
            failed.append(Skipped(video.path, "unreadable", str(frames)))
            continue
        assert isinstance(frames, np.ndarray)
        store.append(video.id, row(frames, video).float().cpu().numpy())
    return failed


@torch.inference_mode()
def embeddings(
    model: VideoCLIP, store: FeatureStore, videos: Sequence[str], *, trunk: bool
) -> NDArray[np.float32]:
    """z_v (V, D) of stored videos, in their order; with `trunk` the model's head is applied to its frames' features."""
    if not trunk:
        return store.gather(videos)
    parts = [
        model.embed_features(torch.from_numpy(store.gather(videos[i : i + ROWS])).to(model.device))
        for i in range(0, len(videos), ROWS)
    ]
    return torch.cat(parts).float().cpu().numpy()
