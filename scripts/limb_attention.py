"""Measure on the miniature how much of a model's attention falls on the limb that acts, before and after training.

Usage: python scripts/limb_attention.py FOLDER SEED [SEED ...]

For each seed the frozen CLIP is adapted without labels, as `maxi demo --full` does, and once more with the true labels.
In videos of unseen and of known actions each model compares the patches of 8 frames with the text of the true action.
Its attention is the eighth of the patches of a frame that are nearest to the text. Their share that lies on the acting
limb is set beside the limb's share of the frame, which is what patches that know nothing would reach.
The same line again goes on after a break. FOLDER gets attention.json; the table goes to stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from maxi.demo.proof import demo_config
from maxi.demo.trial import FULL, ROWS, run_trial, train_row, truth_of
from maxi.files import write_json
from maxi.method.heatmaps import heatmap
from maxi.method.metrics import mean_interval, with_interval
from maxi.miniature.limbs import limb_masks
from maxi.miniature.videos import draw_clip
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.progress import bar
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.video.decode import centre_indices, decode_frames

N_FRAMES, N_VIDEOS = 8, 160
TOP = 8  # one of so many patches of a frame


def share_on_limb(maps: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Return the share of attention on the limb, and the limb's of the frames: maps (T, G, G), masks (T, S, S)."""
    n_frames, grid, _ = maps.shape
    cell = masks.shape[1] // grid
    covered = masks.reshape(n_frames, grid, cell, grid, cell).mean((2, 4)).reshape(n_frames, -1)
    nearest = np.argsort(-maps.reshape(n_frames, -1), axis=1)[:, : grid * grid // TOP]
    return float(np.take_along_axis(covered, nearest, 1).mean()), float(covered.mean())


def measure(model: VideoCLIP, videos: list[Video], split: str, seed: int) -> tuple[float, float]:
    """Return both shares in percent, over the videos of a split."""
    shares = []
    for video in videos:
        clip = draw_clip(seed, split, int(Path(video.path).stem), str(video.label))
        indices = centre_indices(clip.n_frames, N_FRAMES)
        crops, maps = heatmap(
            model, decode_frames(video.path, indices), f"a photo of {video.label}."
        )
        shares.append(share_on_limb(maps, limb_masks(clip, indices, crops.shape[1])))
    on_limb, by_chance = 100 * np.mean(shares, axis=0)
    return float(on_limb), float(by_chance)


def measure_seed(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Train the models of a seed, and return their rows."""
    config = demo_config(seed=seed)
    run_trial(folder, seed, config, control=False, every_row=False, sizes=FULL, progress=bar)
    run = Run(folder / "run")
    truth = truth_of(folder / "videos", read_jsonl(run.manifest, Video))
    train_row(run, "true_labels", ROWS["true_labels"], config, truth, [], bar)
    models = {
        "frozen": "miniature",
        "adapted": str(run.model),
        "supervised": str(folder / "rows" / "true_labels" / "model"),
    }
    rows = []
    for split, place in (("unseen", run.eval), ("known", Run(run.folder / "known"))):
        videos = sorted(read_jsonl(place.manifest, Video), key=lambda video: video.path)[:N_VIDEOS]
        for kind, spec in models.items():
            on_limb, by_chance = measure(load_model(spec), videos, split, seed)
            row = {"seed": seed, "split": split, "model": kind, "on_limb": round(on_limb, 3)}
            rows.append({**row, "by_chance": round(by_chance, 3), "n": len(videos)})
    return rows


def told(values: list[float]) -> str:
    mean, low, high = mean_interval(values)
    return with_interval(mean, (low, high))


def main() -> None:
    out, seeds = Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]]
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        rows += measure_seed(out / f"seed-{seed}", seed)
        write_json(out / "attention.json", rows)
    by = {(row["split"], row["model"], row["seed"]): row for row in rows}
    print("| split | model | attention on the limb | above chance | above frozen |")
    print("|---|---|---|---|---|")
    for split in ("unseen", "known"):
        for model in ("frozen", "adapted", "supervised"):
            own = [by[split, model, seed] for seed in seeds]
            on_limb = [row["on_limb"] for row in own]
            above = [row["on_limb"] - row["by_chance"] for row in own]
            gains = [row["on_limb"] - by[split, "frozen", row["seed"]]["on_limb"] for row in own]
            gain = "" if model == "frozen" else told(gains)
            print(f"| {split} | {model} | {np.mean(on_limb):.1f} | {told(above)} | {gain} |")


if __name__ == "__main__":
    main()
