"""Plan a training, then really train: what `maxi plan` told, over what came true.

    python benchmarks/plan.py runs/mine

Both work on a copy of the run beside it, each in a process of its own; the run itself stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BYTES_OF_RSS = 1 if sys.platform == "darwin" else 1024
OFF = 0.3  # the share by which a plan may be off
MADE_BY_TRAINING = (
    "checkpoints", "model", "control", "training.json*", "train.jsonl", "tensorboard", "wandb*"
)  # fmt: skip


def maxi(*words: str) -> list[str]:
    return [sys.executable, "-m", "maxi", "-q", *words]


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder in which others come and go."""
    total = 0
    for inner, _, names in os.walk(folder):  # unlike rglob it passes over a folder that is gone
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(inner, name)).st_size
    return total


def train(run: Path, settings: Sequence[str]) -> dict[str, float]:
    """Seconds, peak memory, and the disk that is taken at most and in the end."""
    before, began = size_of(run), time.monotonic()
    process = subprocess.Popen(maxi("train", str(run), *settings), stdout=subprocess.DEVNULL)
    peak, found = 0, (0, 0)
    while not found[0]:
        peak = max(peak, size_of(run) - before)
        time.sleep(0.005)
        *found, used = os.wait4(process.pid, os.WNOHANG)
    if found[1]:
        sys.exit("the training failed")
    return {
        "seconds": time.monotonic() - began,
        "memory": used.ru_maxrss * BYTES_OF_RSS,
        "disk, peak": max(peak, size_of(run) - before),
        "disk, end": size_of(run) - before,
    }


def told(run: Path, settings: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        maxi("plan", str(run), "--json", *settings), stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit("the plan failed")
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run with bags")
    parser.add_argument("-s", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if not given.run.is_dir():
        parser.error(f"{given.run} is not a run's folder")
    settings = [word for setting in given.settings for word in ("-s", setting)]
    beside = given.run.resolve().parent
    with TemporaryDirectory(prefix=".benchmark-", dir=beside) as folder:
        run = Path(folder) / given.run.name
        shutil.copytree(given.run, run, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
        plan = told(run, settings)
        true = train(run, settings)
    foretold = {
        "seconds": plan["seconds"],
        "memory": plan["memory"]["process"],
        "disk, peak": plan["disk"]["peak"],
        "disk, end": plan["disk"]["stays"],
    }
    load = [plan["conditions"]["load"], round(os.getloadavg()[0], 1)]
    print(
        f"{plan['n_steps']} steps, load {load[0]} before and {load[1]} after, {os.cpu_count()} cores"
    )
    print(f"{'':10} {'told':>12} {'true':>12} {'ratio':>6}")
    off = False
    for name, value in foretold.items():
        unit, digits = (1, 1) if name == "seconds" else (1e6, 1)
        ratio = value / true[name]
        off |= abs(ratio - 1) > OFF
        print(
            f"{name:10} {value / unit:12.{digits}f} {true[name] / unit:12.{digits}f} {ratio:6.2f}"
        )
    sys.exit(off)


if __name__ == "__main__":
    main()
