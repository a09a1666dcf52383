"""Compare reading the windows of a long video from keyframes on with reading each group of them from the beginning.

python benchmarks/windows.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from maxi.video.decode import centre_indices, decode_frames, probe
from maxi.video.timing import cut
from pairs import in_turn, kept, run, same

LEAST = 3  # how many times as long the other way has to take


@dataclass(frozen=True)
class Sizes:
    seconds: int = 240
    width: int = 640
    height: int = 360
    window: float = 10.0
    at_once: int = 2  # windows of one request, as many as fit into its memory
    n_frames: int = 16
    pairs: int = 3


TINY = Sizes(seconds=20, width=64, height=48, pairs=1)


def write(path: Path, sizes: Sizes) -> None:
    """Write a video of 25 frames a second with a keyframe every two seconds; a bright bar moves over noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (sizes.height, sizes.width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = sizes.width, sizes.height, "yuv420p"
        stream.codec_context.gop_size = 50
        for n in range(25 * sizes.seconds):
            frame = noise.copy()
            frame[:, (4 * n) % sizes.width :][:, :16] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))


def measure(sizes: Sizes) -> bool:
    """Read all windows both ways; return whether the frames are the same, and how many times as long one way takes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write(path, sizes)
        found = probe(path)
        windows = cut(found.times, sizes.window)
        groups = [windows[i : i + sizes.at_once] for i in range(0, len(windows), sizes.at_once)]
        wanted = [
            [
                first + index
                for first, last in (window.frames for window in group)
                for index in centre_indices(last - first, sizes.n_frames)
            ]
            for group in groups
        ]
        print(
            f"{len(windows)} windows of {sizes.window:g} s in {sizes.seconds} s, {len(groups)} requests"
        )

        def read(enter: bool) -> list[float]:
            sums = []
            for indices in wanted:
                seek = found.entry(min(indices)) if enter else None
                sums.append(float(decode_frames(path, indices, seek).sum(dtype=np.float64)))
            return sums

        fine = same("sums of all pixels", read(True), read(False))
        pairs = in_turn(lambda: read(True), lambda: read(False), sizes.pairs)
        print(f"windows         {pairs}", flush=True)
        return kept("windows", pairs.ratio, LEAST) and fine


if __name__ == "__main__":
    run(measure, __doc__, Sizes(), TINY)
