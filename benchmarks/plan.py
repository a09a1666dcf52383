"""Plan a training and then really train: compare what `maxi plan` says with what comes true.

    python benchmarks/plan.py runs/mine

Both work on a copy of the run, which lies beside it, each in a process of its own; the run itself stays as it is.
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
    "checkpoints", "model", "control", "training.json*", "train.jsonl", "tensorboard", "wandb*",
)  # fmt: skip


def maxi(*words: str) -> list[str]:
    """Return the command line of a quiet `maxi` command."""
    return [sys.executable, "-m", "maxi", "-q", *words]


def size_of(folder: Path) -> int:
    """Return the bytes of a folder, while files in it come and go."""
    total = 0
    for inner, _, names in os.walk(folder):  # unlike rglob, it skips a folder that is gone
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(inner, name)).st_size
    return total


def train(run: Path, settings: Sequence[str]) -> dict[str, float]:
    """Train and return the seconds, the peak memory, and the bytes of disk taken at most and in the end."""
    before, began = size_of(run), time.monotonic()
    process = subprocess.Popen(maxi("train", str(run), *settings), stdout=subprocess.DEVNULL)
    peak = ended = 0
    while not ended:
        peak = max(peak, size_of(run) - before)
        time.sleep(0.005)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if status:
        sys.exit("the training failed")
    return {
        "seconds": time.monotonic() - began,
        "memory": usage.ru_maxrss * BYTES_OF_RSS,
        "disk, peak": max(peak, size_of(run) - before),
        "disk, end": size_of(run) - before,
    }


def plan_of(run: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Return what `maxi plan` says."""
    command = maxi("plan", str(run), "--json", *settings)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("the plan failed")
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run with bags")
    parser.add_argument("-s", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if not options.run.is_dir():
        parser.error(f"{options.run} is not a run's folder")
    settings = [word for setting in options.settings for word in ("-s", setting)]
    beside = options.run.resolve().parent
    with TemporaryDirectory(prefix=".benchmark-", dir=beside) as folder:
        run = Path(folder) / options.run.name
        shutil.copytree(options.run, run, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
        plan = plan_of(run, settings)
        true = train(run, settings)
    planned = {
        "seconds": plan["seconds"],
        "memory": plan["memory"]["process"],
        "disk, peak": plan["disk"]["peak"],
        "disk, end": plan["disk"]["stays"],
    }
    load = f"load {plan['conditions']['load']} before and {os.getloadavg()[0]:.1f} after"
    print(f"{plan['n_steps']} steps, {load}, {os.cpu_count()} cores")
    print(f"{'':10} {'told':>12} {'true':>12} {'ratio':>6}")
    missed = False
    for name, value in planned.items():
        unit = 1 if name == "seconds" else 1e6
        ratio = value / true[name]
        missed |= abs(ratio - 1) > OFF
        print(f"{name:10} {value / unit:12.1f} {true[name] / unit:12.1f} {ratio:6.2f}")
    sys.exit(missed)


if __name__ == "__main__":
    main()
