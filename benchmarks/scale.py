"""Put a made-up run of 240,000 videos through match, expand, bag and one epoch of sampling: time and memory.

    python benchmarks/scale.py

Everything goes through the stages' own functions. The data are made in one process and the stages run in another, so
that the peak memory is that of the stages alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from maxi.files import digest, write_json
from maxi.memory import peak_memory
from maxi.records import Bag, Caption, Video, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from maxi.config import Config

N_VIDEOS, N_NAMES, N_CAPTIONS, WIDTH = 240_000, 400, 8, 512
SECONDS, MEGABYTES = 600, 2000  # the budget of match, expand, bag and one epoch together

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds by the clock and of the processor, and its process's peak memory so far, in MB."""

    stage: str
    rows: int
    seconds: float
    cpu: float
    peak: float


def settings(folder: Path) -> Config:
    """Return the default recipe, but for the small CLIP and a single epoch."""
    from maxi.settings import load_config

    return load_config(None, ["epochs=1"], backbone=f"clip:{folder / 'clip'}", device="cpu")


def make(folder: Path, n: int, n_names: int = N_NAMES, n_sentences: int | None = None) -> None:
    """Write a run of `n` made-up videos: manifest, action names, features, and captions from the shipped sentences."""
    import numpy as np

    from maxi.features.store import FeatureStore
    from maxi.method.captioning import sentence_bank
    from maxi.models.text_embeddings import embed_names
    from maxi.progress import silent
    from maxi.randomness import generator
    from maxi.stages.index import start_run
    from maxi.stages.job import open_job

    write_clip(folder / "clip")
    config, names, bank = settings(folder), shipped_names(n_names), sentence_bank()[:n_sentences]
    videos = sorted(digest("made up", i) for i in range(n))

    def captions_of(video: str) -> tuple[str, ...]:
        chosen = generator("captions", config.seed, sample=video).choice(len(bank), N_CAPTIONS)
        return tuple(bank[i] for i in chosen)

    with open_job(folder / "run", config, silent) as job:
        start_run(job, names)
        write_jsonl(
            job.run.manifest,
            (Video(video, f"{video}.mp4", 250, 25.0, 340, 256) for video in videos),
        )
        write_jsonl(
            job.run.captions, (Caption(video, captions_of(video), "retrieval") for video in videos)
        )

        # Each video lies near one of the names, since the texts of a random CLIP differ too little for chance to spread
        # the matches.
        z_l = embed_names(job.model(), names, config.match.templates)
        centred = z_l - z_l.mean(0)
        key = digest("segments", job.fingerprint, config.match.n_frames, False)
        store = FeatureStore(job.run.features, key)
        for video in videos:
            rng = generator("features", config.seed, sample=video)
            near = centred[rng.integers(n_names)]
            z_v = near / np.linalg.norm(near) + rng.standard_normal(WIDTH) / math.sqrt(WIDTH)
            store.append(video, z_v / np.linalg.norm(z_v))
        store.close()


def shipped_names(n: int) -> list[str]:
    """Return the first `n` names that have shipped phrases."""
    text = (resources.files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["name"] for line in text.splitlines()[:n]]


def write_clip(folder: Path, size: int = 32) -> None:
    """Write a random CLIP with D = 512, two small layers per tower and a token per character, for `size` pixels."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from maxi.models.hugging_face import quiet_transformers

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    tower = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 64,
        "intermediate_size": 128,
        "projection_dim": WIDTH,
    }
    text = {
        "vocab_size": len(tokens),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": size, "patch_size": size // 4}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=WIDTH
    )
    with quiet_transformers():
        CLIPModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    preprocessing = {
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    write_json(folder / "preprocessor_config.json", preprocessing)


@contextmanager
def clock(costs: list[Cost], stage: str, rows: int) -> Iterator[None]:
    """Append what the block takes to `costs`."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_memory() / 1e6
    costs.append(Cost(stage, rows, seconds, cpu, peak))


def run_stages(folder: Path) -> list[Cost]:
    """Match, expand, bag and draw one epoch of batches in a folder that `make` filled; return what each took."""
    from maxi.progress import silent
    from maxi.stages.bag import bag_run
    from maxi.stages.expand import expand_run
    from maxi.stages.job import open_job
    from maxi.stages.match import match_run
    from maxi.training.batches import collate_texts
    from maxi.training.schedule import schedule

    costs: list[Cost] = []
    config = settings(folder)
    with open_job(folder / "run", config, silent) as job:
        with clock(costs, "load", 1):
            job.model()
        n = sum(1 for _ in job.run.manifest.open("rb"))
        with clock(costs, "match", n):
            matches = match_run(job)
        with clock(costs, "expand", len(job.names())):
            expand_run(job)
        with clock(costs, "bag", len(matches)):
            bags = bag_run(job)
        with clock(costs, "epoch", len(bags)):
            drawn = 0
            for step in schedule(bags, config.train, config.seed):
                _, index, _, _ = collate_texts(step, config.train, config.seed)
                drawn += len(index)
        assert drawn == len(bags), (drawn, len(bags))
    return costs


def read_bags(folder: Path) -> list[Cost]:
    """Read the bags of a finished run, and return what that took."""
    costs: list[Cost] = []
    path = folder / "run" / "bags.jsonl"
    n = sum(1 for _ in path.open("rb"))
    with clock(costs, "read bags", n):
        read_jsonl(path, Bag)
    return costs


def write_report(folder: Path) -> list[Cost]:
    """Write the report of a finished run, and return what that took."""
    from maxi.progress import silent
    from maxi.stages.job import open_job
    from maxi.stages.report import report_run

    costs: list[Cost] = []
    with open_job(folder / "run", settings(folder), silent) as job:
        n = sum(1 for _ in job.run.manifest.open("rb"))
        with clock(costs, "report", n):
            report_run(job)
    return costs


def in_process(work: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args, **options).result()


def show(costs: Sequence[Cost]) -> None:
    """Print a line for each stage."""
    for cost in costs:
        time_and_rate = f"{cost.seconds:9.1f} {cost.cpu:9.1f} {cost.rows / cost.seconds:9,.0f}"
        print(f"{cost.stage:10} {cost.rows:9,} {time_and_rate} {cost.peak:9,.0f}", flush=True)


def total_of(costs: Sequence[Cost]) -> Cost:
    """Return what all stages took together."""
    seconds, cpu = sum(cost.seconds for cost in costs), sum(cost.cpu for cost in costs)
    return Cost("total", costs[1].rows, seconds, cpu, costs[-1].peak)


def growth(small: Sequence[Cost], large: Sequence[Cost]) -> Iterator[str]:
    """Yield the x of n^x between two sizes: of each stage's processor time, and of memory above the loaded model."""
    log_n = math.log(large[1].rows / small[1].rows)
    for before, after in zip(small, large, strict=True):
        if after.stage in ("match", "bag", "epoch"):
            yield f"{after.stage} {math.log(after.cpu / before.cpu) / log_n:.2f}"
    memory = [costs[-1].peak - costs[0].peak for costs in (small, large)]
    yield f"memory {math.log(memory[1] / memory[0]) / log_n:.2f}"


def measure(n: int, *, apart: bool) -> list[Cost]:
    """Make a run of `n` videos, put it through the stages, and print and return what they took."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        in_process(make, folder, n)
        print(f"\n{n:,} videos, {N_NAMES} names, {N_CAPTIONS} captions each")
        print(f"{'stage':10} {'rows':>9} {'seconds':>9} {'cpu s':>9} {'rows/s':>9} {'peak MB':>9}")
        costs = in_process(run_stages, folder)
        show([*costs, total_of(costs)])
        if apart:
            print("afterwards, each in a process of its own")
            show(in_process(read_bags, folder) + in_process(write_report, folder))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=N_VIDEOS, help="videos (default: %(default)s)")
    n = parser.parse_args().n
    small, large = measure(n // 8, apart=False), measure(n, apart=True)
    print(f"\nfrom {n // 8:,} to {n:,} videos, cost ~ n^x: {', '.join(growth(small, large))}")
    total = total_of(large)
    fits = total.seconds < SECONDS and total.peak < MEGABYTES
    print(
        f"{total.seconds:.0f} s of {SECONDS}, {total.peak:,.0f} MB of {MEGABYTES:,}: "
        f"{'within' if fits else 'OVER'} the budget"
    )
    sys.exit(not fits)


if __name__ == "__main__":
    main()
