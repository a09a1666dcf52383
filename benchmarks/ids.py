"""Measure what it costs to read every byte of a video for its id, beside decoding it once, which indexing does too.

    python benchmarks/ids.py
    python benchmarks/ids.py FOLDER

Without a folder the script makes its own videos, those of `frames.py`. Both take turns on each file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from frames import write_video
from maxi.errors import MaxiError
from maxi.video.decode import probe
from maxi.video.identity import content_id
from maxi.video.sources import list_videos


def measure(folder: Path) -> tuple[int, int, float, float]:
    """Return the number of files that decode, their bytes, and the seconds for the ids and for decoding."""
    n_files = n_bytes = 0
    for_ids = for_frames = 0.0
    for source in list_videos(folder):
        began = time.perf_counter()
        content_id(source.path)
        read = time.perf_counter()
        try:
            probe(source.path)
        except MaxiError:
            continue
        for_ids += read - began
        for_frames += time.perf_counter() - read
        n_files += 1
        n_bytes += source.path.stat().st_size
    return n_files, n_bytes, for_ids, for_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder
    with TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            for i in range(4):
                write_video(folder / f"{i}.mp4", i)
        n_files, n_bytes, for_ids, for_frames = measure(folder)
    print(
        f"{n_files} files, {n_bytes / 1e6:.1f} MB: ids {for_ids:.3f} s ({n_bytes / 1e6 / for_ids:,.0f} MB/s), "
        f"decoding {for_frames:.3f} s; ids take 1/{for_frames / for_ids:,.0f} of it"
    )


if __name__ == "__main__":
    main()
