"""Render videos of the miniature as mp4 files; each is a pure function of (seed, split, index)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from maxi.errors import MaxiError
from maxi.files import write_text
from maxi.miniature.scenes import NO_SHIFT, Scene, draw_scene, frames
from maxi.processes import end_with_parent
from maxi.randomness import generator

SIZES = ((160, 120), (176, 144), (128, 128), (192, 112), (144, 160))
RATES = (8, 10, 12, 15)
FAR = 0.8  # of the usual size of the body, before a far camera
LINES = 0.5  # weight of the lines of a drawing; the rest are shades

Style = Literal["usual", "plain", "drawing", "far", "two actions"]
"""How videos look: as those of the collection; like the stills, without the shift; as a drawing; from afar; or
with one action after another."""

THEN = " + "  # between the names of a video with two actions


class Clip(NamedTuple):
    """A video before it is drawn."""

    scene: Scene
    size: tuple[int, int]  # width, height
    fps: int
    n_frames: int
    quality: int  # x264's constant rate factor: larger is coarser
    style: Style = "usual"


class Order(NamedTuple):
    """A split that is to be rendered: `n` videos, to which the action names are given in turn.

    Each `cuts` videos are parts of one recording: they differ in where in the action they begin, and in their length.
    """

    split: str
    names: Sequence[str]
    n: int
    style: Style = "usual"
    cuts: int = 1

    def shown(self, index: int) -> str:
        """Return the name of what video `index` shows, or the two names with ` + ` between them."""
        name = self.names[index % len(self.names)]
        if self.style != "two actions":
            return name
        lap = 1 + index // len(self.names) % (len(self.names) - 1)
        return f"{name}{THEN}{self.names[(index + lap) % len(self.names)]}"


def draw_clip(
    seed: int, split: str, index: int, action: str, *, style: Style = "usual", cuts: int = 1
) -> Clip:
    """Draw what video `index` of a split shows. Of two actions, `action` names both."""
    rng = generator(f"miniature {split}", seed, 0, str(index // cuts))
    scene = draw_scene(rng, action)
    fps = RATES[rng.integers(len(RATES))]
    size = SIZES[rng.integers(len(SIZES))]
    quality = int(rng.integers(26, 37))
    if cuts > 1:
        rng = generator(f"miniature cut {split}", seed, 0, str(index))
        scene = scene._replace(phase=rng.random())
    n_frames = round(fps * rng.uniform(2.0, 4.0))
    if style in ("plain", "drawing"):
        scene, quality = scene._replace(shift=NO_SHIFT), 18
    elif style == "far":
        scene = scene._replace(scale=FAR * scene.scale)
    return Clip(scene, size, fps, n_frames, quality, style)


def pictures(clip: Clip, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a clip, each uint8 (H, W, 3), at `size` (width, height)."""
    times = np.arange(clip.n_frames) / clip.fps
    actions = clip.scene.action.split(THEN)
    for action, part in zip(actions, np.array_split(times, len(actions)), strict=True):
        for pixels in frames(clip.scene._replace(action=action), size, part):
            yield _drawing(pixels) if clip.style == "drawing" else pixels


def _drawing(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame as a pencil drawing: shades of grey under dark lines where it changes."""
    grey = ImageOps.autocontrast(Image.fromarray(pixels).convert("L"))
    drawn = Image.blend(grey, grey.filter(ImageFilter.CONTOUR), LINES)
    return np.asarray(drawn.convert("RGB"))


def write_clip(path: Path, clip: Clip, *, zoom: int = 1) -> None:
    """Write a clip as H.264, drawn `zoom` times larger than its size."""
    width, height = (side * zoom for side in clip.size)
    part = path.with_suffix(".part.mp4")
    with av.open(f"file:{part.absolute()}", "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(clip.fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # so that the bytes do not depend on the number of cores
        stream.options = {"preset": "ultrafast", "crf": str(clip.quality)}
        for pixels in pictures(clip, (width, height)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    part.replace(path)


def _write(job: tuple[Path, int, Order, int]) -> None:
    """Write one video, if it is not there; this runs in a process of the pool."""
    path, seed, order, index = job
    if not path.exists():
        # What is drawn depends on the split's name up to a dot: `pool.plain` is `pool` without the shift.
        split, shown = order.split.partition(".")[0], order.shown(index)
        write_clip(path, draw_clip(seed, split, index, shown, style=order.style, cuts=order.cuts))


Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def render(folder: Path, seed: int, orders: Sequence[Order], *, progress: Progress) -> None:
    """Write the videos of every order to `folder/SPLIT/NNNN.mp4`, and their action names to `folder/SPLIT.csv`.

    Videos that are there already are kept, so that an interruption loses only those in work. Raises MaxiError when the
    videos cannot be written.
    """
    jobs = []
    for order in orders:
        split_folder = folder / order.split
        split_folder.mkdir(parents=True, exist_ok=True)
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["path", "label"])
        for index in range(order.n):
            path = split_folder / f"{index:04d}.mp4"
            rows.writerow([path.relative_to(folder).as_posix(), order.shown(index)])
            jobs.append((path, seed, order, index))
        write_text(folder / f"{order.split}.csv", [table.getvalue()])
    missing = [job for job in jobs if not job[0].exists()]
    if not missing:
        return
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        done = pool.map(_write, missing, chunksize=4)
        for _ in progress(done, len(missing), "render"):
            pass
    except BrokenProcessPool as error:  # a program from stdin, or one without a main guard
        raise MaxiError(
            f"{folder}: the processes that draw the videos ended at once; run it from a file whose work stands under "
            "`if __name__ == '__main__':`, or use the command `maxi demo`"
        ) from error
    except (OSError, av.FFmpegError) as error:
        raise MaxiError(
            f"{folder}: the videos cannot be written ({error}); make room and run it again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
