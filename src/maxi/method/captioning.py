"""Caption: frames -> sentences that describe them (section 3.2, "BLIP captioning").

`retrieval` needs no captioner: the backbone itself picks the nearest sentence of a shipped bank for each frame. It
therefore repeats the match's errors, and cannot say what is not in the bank; real captioners, such as `blip`, see more.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from maxi.config import ChatConfig
from maxi.errors import MaxiError, choose
from maxi.features.embedding import prepare
from maxi.models.text_embeddings import embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.records import Caption, Video, read_jsonl
from maxi.text import reply_parser as replies
from maxi.text.chat import Chat, Cost, Question
from maxi.text.clean import clean
from maxi.video.decode import centre_indices
from maxi.video.workers import Decoder, Request


@dataclass(frozen=True)
class CaptionContext:
    """What a captioner may use."""

    model: VideoCLIP
    chat: ChatConfig = field(default_factory=ChatConfig)


PICTURE = 512  # longest side of what a server is sent, in pixels

Captioner = Callable[[Video, NDArray[np.uint8]], Sequence[str]]


@dataclass(frozen=True)
class Together:
    """A captioner that describes the frames of some videos at once, which is faster; also a `Captioner`."""

    describe: Callable[[Sequence[NDArray[np.uint8]]], list[list[str]]]
    n_videos: int = 4

    def __call__(self, video: Video, frames: NDArray[np.uint8]) -> list[str]:
        return self.describe([frames])[0]


@dataclass(frozen=True)
class Maker:
    """How to make a captioner: `make(argument, context)`.

    `sees` is False when it needs no frames; `files(argument)` are those whose contents decide what it says.
    """

    make: Callable[[str, CaptionContext], Captioner]
    sees: bool = True
    files: Callable[[str], Sequence[Path]] = lambda argument: ()


def sentence_bank() -> list[str]:
    """The shipped sentences, one or more for each of some hundred kinds of action."""
    text = (resources.files("maxi") / "data" / "sentences.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def _retrieval(argument: str, context: CaptionContext) -> Captioner:
    if argument:
        raise MaxiError(
            "captioner 'retrieval' takes no argument; use `file:PATH` for captions of your own"
        )
    sentences = sentence_bank()
    z_t = embed_texts(context.model, sentences)

    @torch.inference_mode()
    def caption(video: Video, frames: NDArray[np.uint8]) -> list[str]:
        z_f = context.model.backbone.encode_image(prepare(context.model, frames))  # (T, D)
        nearest = (F.normalize(z_f.float().cpu(), dim=-1) @ z_t.T).argmax(1)
        return [sentences[i] for i in nearest.tolist()]

    return caption


def _file(argument: str, context: CaptionContext) -> Captioner:
    path = Path(argument)
    rows = {row.video: row.captions for row in read_jsonl(path, Caption)}

    def caption(video: Video, frames: NDArray[np.uint8]) -> Sequence[str]:
        return rows.get(video.id) or rows.get(Path(video.path).name) or ()

    return caption


def _blip(argument: str, context: CaptionContext) -> Captioner:
    from maxi.models.blip import load_blip

    return Together(load_blip(argument, context.model.device).caption_all)


def _blip_files(argument: str) -> Sequence[Path]:
    from maxi.models.blip import find_blip
    from maxi.models.hugging_face import files_of

    return files_of(find_blip(argument))


def _openai(argument: str, context: CaptionContext) -> Captioner:
    from maxi.models.blip import once_per_picture

    chat = _chat(argument, context.chat)
    chat.check()

    def describe(frames: Sequence[NDArray[np.uint8]]) -> list[str]:
        return [replies.sentence(text) for text in chat.ask_all([question(f) for f in frames])]

    return lambda video, frames: once_per_picture([frames], describe)[0]


def _chat(model: str, config: ChatConfig) -> Chat:
    if not model:
        raise MaxiError("captioner 'openai' needs a model that sees; write openai:MODEL")
    return Chat(model, config)


def question(frame: NDArray[np.uint8]) -> Question:
    """What a server's vision model is asked about one frame (H, W, 3)."""
    image, file = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((PICTURE, PICTURE))
    image.save(file, "JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    parts = [
        {"type": "text", "text": replies.DESCRIBE},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    return Question([{"role": "user", "content": parts}], max_tokens=60)


def captioning_cost(spec: str, n_frames: int, config: ChatConfig) -> Cost | None:
    """What captioning so many frames by `openai:MODEL` costs at most; None for captioners that cost nothing.

    Frames are not decoded for it, so replies that are kept from earlier and equal frames are not taken off.
    """
    name, _, model = spec.partition(":")
    if name != "openai":
        return None
    n_in, n_out = question(np.zeros((8, 8, 3), np.uint8)).estimate()
    dollars = _chat(model, config).price(n_frames * n_in, n_frames * n_out)
    return Cost(n_frames, 0, n_frames * n_in, n_frames * n_out, dollars)


CAPTIONERS: dict[str, Maker] = {
    "retrieval": Maker(_retrieval),
    "blip": Maker(_blip, files=_blip_files),
    "openai": Maker(_openai),
    "file": Maker(_file, sees=False, files=lambda argument: [Path(argument)]),
}


def make_captioner(spec: str, context: CaptionContext) -> tuple[Captioner, bool]:
    """A captioner from `NAME[:ARGUMENT]`, and whether it looks at frames; from outside `package.module:function`."""
    name, _, argument = spec.partition(":")
    if name in CAPTIONERS:
        maker = CAPTIONERS[name]
        return maker.make(argument, context), maker.sees
    outside: Callable[[str, CaptionContext], Captioner] = choose(
        {k: m.make for k, m in CAPTIONERS.items()}, spec, "captioner"
    )
    return outside("", context), True


def source_files(spec: str) -> Sequence[Path]:
    """The files, beside the backbone's and the videos, that decide what a captioner says: captions, or weights."""
    name, _, argument = spec.partition(":")
    return CAPTIONERS[name].files(argument) if name in CAPTIONERS else ()


def caption(
    videos: Sequence[Video], model: VideoCLIP, captioner: str = "retrieval", n_frames: int = 8
) -> list[Caption]:
    """Captions of uniform frames of each video, in frame order (appendix B: 8 frames).

    Raises MaxiError for an unknown captioner and for a video that can no longer be decoded.
    """
    ask, _ = make_captioner(captioner, CaptionContext(model))
    source, rows = captioner.partition(":")[0], []
    with Decoder() as decoder:
        answers = decoder.map(request(video, n_frames) for video in videos)
        for video, (_, frames) in zip(videos, answers, strict=True):
            if not isinstance(frames, np.ndarray):
                raise MaxiError(f"{video.path} can no longer be read ({frames}); leave it out")
            rows.append(Caption(video.id, tidy(ask(video, frames)), source))
    return rows


def request(video: Video, n_frames: int) -> Request:
    """The uniform frames of a video that are captioned."""
    return Request(video.path, tuple(centre_indices(video.n_frames, n_frames)))


def unfinished(videos: Sequence[Video], done: Collection[str], size: int) -> list[Video]:
    """The groups of `size` videos that are not all done: a video is described among the same ones after a break."""
    groups = [videos[i : i + size] for i in range(0, len(videos), size)]
    return [v for group in groups if any(v.id not in done for v in group) for v in group]


def describe(
    captioner: Captioner, chunk: Sequence[tuple[Video, NDArray[np.uint8]]]
) -> list[tuple[str, ...]]:
    """The captions of some videos, at once where the captioner can."""
    if isinstance(captioner, Together):
        described: Sequence[Sequence[str]] = captioner.describe([frames for _, frames in chunk])
    else:
        described = [captioner(video, frames) for video, frames in chunk]
    return [tidy(captions) for captions in described]


def tidy(captions: Iterable[str]) -> tuple[str, ...]:
    """Captions are text from outside: normalised, cut to length, empty ones dropped."""
    return tuple(text for text in map(clean, captions) if text)
