"""Render videos of the miniature as mp4 files; each is a pure function of (seed, split, index)."""

from __future__ import annotations

import csv
import io
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from maxi.errors import MaxiError
from maxi.files import write_text
from maxi.miniature.scenes import NO_SHIFT, Scene, draw_scene, frames
from maxi.randomness import generator

SIZES = ((160, 120), (176, 144), (128, 128), (192, 112), (144, 160))
RATES = (8, 10, 12, 15)


class Clip(NamedTuple):
    """A video before it is drawn."""

    scene: Scene
    size: tuple[int, int]  # width, height
    fps: int
    n_frames: int
    quality: int  # x264's constant rate factor: larger is coarser


class Order(NamedTuple):
    """A split that is to be rendered: `n` videos, to which the action names are given in turn."""

    split: str
    names: Sequence[str]
    n: int
    shifted: bool = True


def draw_clip(seed: int, split: str, index: int, action: str, *, shifted: bool = True) -> Clip:
    """Draw what video `index` of a split shows; without `shifted`, it looks like the stills."""
    rng = generator(f"miniature {split}", seed, 0, str(index))
    scene = draw_scene(rng, action)
    fps = RATES[rng.integers(len(RATES))]
    size = SIZES[rng.integers(len(SIZES))]
    quality = int(rng.integers(26, 37))
    n_frames = round(fps * rng.uniform(2.0, 4.0))
    if not shifted:
        scene, quality = scene._replace(shift=NO_SHIFT), 18
    return Clip(scene, size, fps, n_frames, quality)


def write_clip(path: Path, clip: Clip, *, zoom: int = 1) -> None:
    """Write a clip as H.264, drawn `zoom` times larger than its size."""
    width, height = (side * zoom for side in clip.size)
    part = path.with_suffix(".part.mp4")
    times = np.arange(clip.n_frames) / clip.fps
    with av.open(f"file:{part.absolute()}", "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(clip.fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # so that the bytes do not depend on the number of cores
        stream.options = {"preset": "ultrafast", "crf": str(clip.quality)}
        for pixels in frames(clip.scene, (width, height), times):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    part.replace(path)


def _write(job: tuple[Path, int, str, int, str, bool]) -> None:
    """Write one video, if it is not there; this runs in a process of the pool."""
    path, seed, split, index, action, shifted = job
    if not path.exists():
        write_clip(path, draw_clip(seed, split, index, action, shifted=shifted))


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
            name = order.names[index % len(order.names)]
            path = split_folder / f"{index:04d}.mp4"
            rows.writerow([path.relative_to(folder).as_posix(), name])
            # What is drawn depends on the split's name up to a dot: `pool.plain` is `pool` without the shift.
            jobs.append((path, seed, order.split.partition(".")[0], index, name, order.shifted))
        write_text(folder / f"{order.split}.csv", [table.getvalue()])
    missing = [job for job in jobs if not job[0].exists()]
    if not missing:
        return
    # Ctrl-C reaches all processes of a terminal; these ignore it, since the command ends them.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=signal.signal, initargs=ignored
    )
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
