"""Measure clips per second for training: from H.264 that is decoded each time, from raw shards and from JPEG shards.

    python benchmarks/frames.py

The script makes its own videos: 10 s of 640 x 360 at 30 frames per second. All three ways go through training's own
functions: 16 frames of a video, augmented to 224 x 224 and put together to a batch. Their repetitions take turns, so
that other work on the machine slows all alike; it changes the processor's time, of all processes, least. Exits with 1
when raw shards give less than four times the clips of decoding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import av
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from maxi.progress import bar, silent
from maxi.records import Bag, write_jsonl
from maxi.settings import load_config
from maxi.stages.cache import cache_run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import n_workers, open_job
from maxi.training.batches import Batches, decoded_clips
from maxi.training.schedule import schedule
from maxi.training.stored_clips import stored_clips
from maxi.video.frame_store import FrameStore
from scale import write_clip

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 30, 10
AT_LEAST = 4.0  # how many times the clips of decoding raw shards have to give


def texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw noise whose finer details are fainter, as in photographs: uint8 (H, W, 3)."""
    total = torch.zeros(1, 3, height, width)
    for k in range(1, 9):
        noise = torch.from_numpy(rng.standard_normal((1, 3, 2**k, 2**k), np.float32))
        total += F.interpolate(noise, (height, width), mode="bicubic") * 0.7**k
    total = (total - total.mean()) / total.std()
    return (128 + 55 * total[0].permute(1, 2, 0)).clamp(0, 255).byte().numpy()


def frames(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield a textured scene under a moving camera, with six textured things that cross it, and a sensor's grain."""
    rng = np.random.default_rng(seed)
    scene = texture(rng, HEIGHT + 200, WIDTH + 300)
    things = [texture(rng, *rng.integers(40, 160, 2)) for _ in range(6)]
    starts, speeds = rng.random((6, 2)), rng.uniform(-90, 90, (6, 2)) / FPS
    grain = rng.normal(0, 3, (16, HEIGHT, WIDTH, 1))
    for n in range(FPS * SECONDS):
        top, left = 100 + 99 * np.sin(n / 41 + seed), 150 + 149 * np.sin(n / 67 + 2 * seed)
        picture = scene[int(top) :, int(left) :][:HEIGHT, :WIDTH].astype(np.float32)
        for thing, start, speed in zip(things, starts, speeds, strict=True):
            room = np.array([HEIGHT, WIDTH]) - thing.shape[:2]
            y, x = ((start * room + speed * n) % room).astype(int)
            picture[y : y + thing.shape[0], x : x + thing.shape[1]] = thing
        yield (picture + grain[n % 16]).clip(0, 255).astype(np.uint8)


def write_video(path: Path, seed: int) -> None:
    """Write such frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames(seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def processor_seconds() -> float:
    """Return the processor's seconds that this process, and those that decode for it, have taken."""
    own = psutil.Process()
    processes = (own, *own.children(recursive=True))
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(folder: Path, n: int, repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds by the clock and of the processor for one clip, for each way and each repetition."""
    write_clip(folder / "clip", 224)
    (folder / "videos").mkdir()
    for i in bar(range(n), n, "write videos"):
        write_video(folder / "videos" / f"{i}.mp4", i)
    config = load_config(
        None, [f"batch_size={n}"], backbone=f"clip:{folder / 'clip'}", device="cpu"
    )
    with open_job(folder / "run", config, silent) as job:
        start_run(job, ["one name", "another name"])
        videos = index_run(job, str(folder / "videos"))
        bags = [Bag(video.id, "one name") for video in videos]
        write_jsonl(job.run.bags, bags)
        model = job.model()
        duration = sum(video.n_frames / video.fps for video in videos)
        megabits = 8e-6 * sum(Path(video.path).stat().st_size for video in videos)
        print(f"{n} files, {megabits / duration:.2f} Mbit/s")
        ways: dict[str, Batches] = {
            "decoded": decoded_clips(model, videos, job.decoder, config.train, 0)
        }
        for kind in ("raw", "jpeg"):
            cache = config.cache.model_copy(update={"format": kind})
            job.config = config.model_copy(update={"cache": cache})
            print(f"{kind}: {cache_run(job)}")
            store = FrameStore(job.run.frames, job.config.cache)
            ways[kind] = stored_clips(
                model, videos, store, config.train, 0, n_threads=n_workers(config)
            )
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        steps = list(schedule(bags, config.train.model_copy(update={"epochs": repetitions + 1}), 0))
        for step in bar(steps, len(steps), "measure"):
            for name, batches in ways.items():
                began, used = time.perf_counter(), processor_seconds()
                ((_, clips),) = batches([step])
                seconds, cpu = time.perf_counter() - began, processor_seconds() - used
                if step.number:  # in the first step, processes start
                    costs[name].append((seconds / len(clips), cpu / len(clips)))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=16, help="Videos.")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        costs = measure(Path(folder), options.n, options.repetitions)
    print("              clips/s (least to most)   times   processor ms/clip   times")
    slow, slow_cpu = medians(costs["decoded"])
    for name, clip_costs in costs.items():
        seconds, cpu = medians(clip_costs)
        rates = [1 / clip_seconds for clip_seconds, _ in clip_costs]
        print(
            f"{name:10} {1 / seconds:10.1f} ({min(rates):.1f} to {max(rates):.1f}) {slow / seconds:12.1f}"
            f" {1000 * cpu:19.1f} {slow_cpu / cpu:7.1f}"
        )
    if slow < AT_LEAST * medians(costs["raw"])[0]:
        sys.exit(1)


def medians(costs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median seconds by the clock and of the processor."""
    return median(seconds for seconds, _ in costs), median(cpu for _, cpu in costs)


if __name__ == "__main__":
    main()
