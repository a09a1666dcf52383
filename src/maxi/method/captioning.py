"""Caption: describe the frames of a video by sentences (section 3.2, "BLIP captioning").

`retrieval` needs no captioning model: for each frame the backbone itself picks the nearest sentence of a shipped bank.
It therefore repeats the errors of the match, and cannot say what is not in the bank. Captioning models, such as
`blip`, see more.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from maxi.config import ChatConfig
from maxi.errors import MaxiError, choose
from maxi.features.embedding import prepare
from maxi.files import given_path
from maxi.models.text_embeddings import embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.records import Caption, Video, read_jsonl
from maxi.text import reply_parser as replies
from maxi.text.chat import Chat, Cost, tokens_of
from maxi.text.chat_server import Question
from maxi.text.clean import clean
from maxi.video.decode import centre_indices
from maxi.video.workers import Decoder, Request

PICTURE = 512  # longest side in pixels of a frame that is sent to a server

Captioner = Callable[[Video, NDArray[np.uint8]], Sequence[str]]


@dataclass(frozen=True)
class CaptionContext:
    """What a captioner may use beyond the frames: the backbone, and the settings of a chat server."""

    model: VideoCLIP
    chat: ChatConfig = field(default_factory=ChatConfig)


@dataclass(frozen=True)
class Together:
    """A captioner that describes the frames of several videos at once, which is faster; it is also a `Captioner`."""

    describe: Callable[[Sequence[NDArray[np.uint8]]], list[list[str]]]
    n_videos: int = 4

    def __call__(self, video: Video, frames: NDArray[np.uint8]) -> list[str]:
        return self.describe([frames])[0]


@dataclass(frozen=True)
class Maker:
    """How a captioner is made: `make(argument, context)` returns it.

    `sees` is False when the captioner needs no frames. `files(argument)` returns the files whose contents decide what
    it says.
    """

    make: Callable[[str, CaptionContext], Captioner]
    sees: bool = True
    files: Callable[[str], Sequence[Path]] = lambda argument: ()


def sentence_bank() -> list[str]:
    """Return the shipped sentences: one or more for each of about a hundred kinds of action."""
    text = (resources.files("maxi") / "data" / "sentences.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def _retrieval(argument: str, context: CaptionContext) -> Captioner:
    if argument:
        raise MaxiError(
            "captioner 'retrieval' takes no argument; write `file:PATH` for captions of your own"
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
    path = given_path(argument)
    if path.is_dir():
        return lambda video, frames: _lines_of(path, Path(video.path))
    captions = {row.video: row.captions for row in read_jsonl(path, Caption)}
    videos_of_rows: dict[str, str] = {}

    def caption(video: Video, frames: NDArray[np.uint8]) -> Sequence[str]:
        folders = Path(video.path).parts
        # The id, or the end of the path: as many folders as the row states, but for the longest that fits.
        keys = [video.id, *("/".join(folders[i:]) for i in range(len(folders)))]
        key = next((key for key in keys if key in captions), None)
        if key is None:
            return ()
        if (first := videos_of_rows.setdefault(key, video.id)) != video.id:
            raise MaxiError(
                f"{path}: the row {key!r} fits more than one video, such as {video.path}; name each by its id in "
                f"manifest.jsonl ({first}, {video.id}), or by its folder and file name"
            )
        return captions[key]

    return caption


def _lines_of(folder: Path, video: Path) -> Sequence[str]:
    """Return the lines of a video's own text file, in a folder of the name of the video's folder, or directly."""
    for file in (folder / video.parent.name / f"{video.stem}.txt", folder / f"{video.stem}.txt"):
        if file.is_file():
            try:
                return file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise MaxiError(
                    f"{file}: cannot be read as UTF-8 text ({error}); mend it"
                ) from error
    return ()


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
        answers = chat.ask_all([question(frame) for frame in frames])
        return [replies.sentence(answer) for answer in answers]

    return lambda video, frames: once_per_picture([frames], describe)[0]


def _chat(model: str, config: ChatConfig) -> Chat:
    if not model:
        raise MaxiError("captioner 'openai' needs a model that sees images; write openai:MODEL")
    return Chat(model, config)


def question(frame: NDArray[np.uint8]) -> Question:
    """Return the question that a server's vision model is asked about one frame (H, W, 3)."""
    parts = [{"type": "text", "text": replies.DESCRIBE}, picture(frame)]
    return Question([{"role": "user", "content": parts}], max_tokens=60)


def picture(frame: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a frame (H, W, 3) as a part of a message, made small."""
    image, jpeg = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((PICTURE, PICTURE))
    image.save(jpeg, "JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def captioning_cost(spec: str, n_frames: int, config: ChatConfig) -> Cost | None:
    """Return the most that captioning `n_frames` frames by `openai:MODEL` costs; None for captioners that cost nothing.

    No frame is decoded for this, so stored replies and equal frames, which cost nothing, are not subtracted.
    """
    name, _, model = spec.partition(":")
    if name != "openai":
        return None
    n_read, n_written = tokens_of(question(np.zeros((8, 8, 3), np.uint8)))  # of one frame
    n_read, n_written = n_frames * n_read, n_frames * n_written
    return Cost(n_frames, 0, n_read, n_written, _chat(model, config).price(n_read, n_written))


CAPTIONERS: dict[str, Maker] = {
    "retrieval": Maker(_retrieval),
    "blip": Maker(_blip, files=_blip_files),
    "openai": Maker(_openai),
    "file": Maker(_file, sees=False, files=lambda argument: [given_path(argument)]),
}


def make_captioner(spec: str, context: CaptionContext) -> tuple[Captioner, bool]:
    """Make the captioner that `NAME[:ARGUMENT]` or `package.module:function` names, and say whether it needs frames.

    Raises MaxiError when there is no such captioner.
    """
    name, _, argument = spec.partition(":")
    if name in CAPTIONERS:
        maker = CAPTIONERS[name]
        return maker.make(argument, context), maker.sees
    makes = {known: maker.make for known, maker in CAPTIONERS.items()}
    return choose(makes, spec, "captioner")("", context), True


def sees_frames(spec: str) -> bool:
    """Return whether a captioner looks at frames; one that does not may go by the paths of all videos."""
    name = spec.partition(":")[0]
    return name not in CAPTIONERS or CAPTIONERS[name].sees


def source_files(spec: str) -> Sequence[Path]:
    """Return the files that decide what a captioner says (its captions or weights), without videos and backbone."""
    name, _, argument = spec.partition(":")
    return CAPTIONERS[name].files(argument) if name in CAPTIONERS else ()


def caption(
    videos: Sequence[Video], model: VideoCLIP, captioner: str = "retrieval", n_frames: int = 8
) -> list[Caption]:
    """Caption `n_frames` evenly spaced frames of each video, in frame order (appendix B: 8 frames).

    Raises MaxiError for an unknown captioner, and for a video that can no longer be decoded.
    """
    caption_frames, _ = make_captioner(captioner, CaptionContext(model))
    source, rows = captioner.partition(":")[0], []
    with Decoder() as decoder:
        answers = decoder.map(request(video, n_frames) for video in videos)
        for video, (_, frames) in zip(videos, answers, strict=True):
            if not isinstance(frames, np.ndarray):
                raise MaxiError(f"{video.path} can no longer be read ({frames}); leave it out")
            rows.append(Caption(video.id, tidy(caption_frames(video, frames)), source))
    return rows


def request(video: Video, n_frames: int) -> Request:
    """Return the request for the evenly spaced frames of a video that are captioned."""
    return Request.of(video, centre_indices(video.n_frames, n_frames))


def unfinished(videos: Sequence[Video], done: Collection[str], size: int) -> list[Video]:
    """Return the videos of all groups of `size` in which at least one video is not done.

    Whole groups are repeated, so that after a break each video is described in the same batch as without it.
    """
    groups = [videos[i : i + size] for i in range(0, len(videos), size)]
    return [v for group in groups if any(v.id not in done for v in group) for v in group]


def describe(
    captioner: Captioner, chunk: Sequence[tuple[Video, NDArray[np.uint8]]]
) -> list[tuple[str, ...]]:
    """Return the captions of each video of the chunk; they are made in one batch when the captioner can do that."""
    if isinstance(captioner, Together):
        captions: Sequence[Sequence[str]] = captioner.describe([frames for _, frames in chunk])
    else:
        captions = [captioner(video, frames) for video, frames in chunk]
    return [tidy(captions_of_video) for captions_of_video in captions]


def tidy(captions: Iterable[str]) -> tuple[str, ...]:
    """Normalise captions and cut them to length, since they come from outside, and drop those that end up empty."""
    return tuple(text for text in map(clean, captions) if text)
