"""Compare other bags with the paper's bag on the miniature: what each of them gains, paired by seed.

    maxi demo -o runs/proof --seeds 5
    python benchmarks/bags.py runs/proof

Each bag goes through the proof's own functions, from the same matches, phrases and captions, and is measured on the
same unseen videos. If the script is interrupted, start it again: it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maxi.demo.proof import demo_config
from maxi.demo.trial import Row, all_phrases, labelled, scores_of, train_row, truth_of
from maxi.files import read_json, write_json
from maxi.method.evaluation import label_indices
from maxi.method.matching import keep_confident, match
from maxi.method.metrics import mean_interval, with_interval
from maxi.miniature.actions import partition
from maxi.models.text_embeddings import embed_names, embed_names_with_phrases
from maxi.progress import bar
from maxi.records import Match, Video, read_jsonl
from maxi.run import Run
from maxi.stages.job import Job, embed, open_job
from maxi.studies.collection import Split

KEEP = 0.9


def per_name(
    matches: Sequence[Match], truth: Mapping[str, str], names: Sequence[str], seed: int
) -> list[Match]:
    """Return the matches with the most confident share of each name kept, instead of one threshold for all."""
    name_indices = np.array([names.index(match.name) for match in matches])
    scores = np.array([match.score for match in matches], np.float32)
    all_kept = keep_confident(scores, KEEP, name_indices)
    return [replace(match, kept=bool(kept)) for match, kept in zip(matches, all_kept, strict=True)]


WAYS = {
    "kept per name": Row(matches=per_name),
    "verbs of captions": Row(bag={"caption_parts": "verbs"}),
    "nouns of captions": Row(bag={"caption_parts": "nouns"}),
}


def soft(job: Job, videos: Sequence[Video], names: list[str]) -> Row:
    """Match each video to three names, from the frozen model's features as in the run."""
    config = job.config.match
    _, z_v = embed(job, job.model(), videos, config.n_frames)
    z_l = embed_names(job.model(), names, config.templates)
    ids = [video.id for video in videos]
    matches = match(ids, z_v, names, z_l, keep=config.keep, top_k=3, tau=0.05)
    return Row(matches=lambda hard_matches, truth, names, seed: matches)


def top1(scores: Any, split: Split) -> float:
    """Return top-1 in percent."""
    return float(100 * (scores.argmax(1) == label_indices(split.videos, split.names)).mean())


def measure(folder: Path, seed: int, overrides: tuple[str, ...]) -> dict[str, float]:
    """Return top-1 on the unseen videos of one seed: the paper's bag, each other bag, and other class texts at test."""
    config = demo_config(overrides, seed=seed)
    trial = folder / f"seed-{seed}"
    run, videos = Run(trial / "run"), trial / "videos"
    _, unseen = partition(seed)
    with open_job(run.folder, config, bar) as job:
        split = Split("unseen", labelled(job, videos, "unseen"), unseen)
        truth = truth_of(videos, read_jsonl(run.manifest, Video))
        accuracies = {"frozen": top1(scores_of(job, None, [split])["unseen"], split)}
        accuracies["paper's bag"] = top1(scores_of(job, run.model, [split])["unseen"], split)
        model = job.model(run.model)
        _, z_v = embed(job, model, split.videos, config.eval.n_frames)
        z_l = embed_names(model, unseen, config.match.templates)
        accuracies["test names averaged over 4 prompts"] = top1(z_v @ z_l.T, split)
        book = all_phrases(config)
        averaged = embed_names_with_phrases(model, unseen, book, config.eval.prompt)
        accuracies["test names averaged with phrases, half and half"] = top1(
            z_v @ averaged.T, split
        )
        ways = {
            **WAYS,
            "soft matching": soft(job, read_jsonl(run.manifest, Video), job.names()),
            "agreement with the adapted model": Row(bag={"agree": str(run.model)}),
        }
    for name, row in ways.items():
        scores = train_row(run, name.replace(" ", "_"), row, config, truth, [split], bar)
        accuracies[name] = top1(scores["unseen"], split)
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("proof", type=Path, help="Folder of `maxi demo --seeds N`.")
    folder = parser.parse_args().proof
    overrides = tuple(read_json(folder / "demo.json")["overrides"])
    seeds = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))
    table = {seed: measure(folder, seed, overrides) for seed in seeds}
    write_json(folder / "bags.json", table)
    print(f"{len(seeds)} seeds: {', '.join(map(str, seeds))}; top-1 % on the unseen videos")
    for name in table[seeds[0]]:
        values = [table[seed][name] for seed in seeds]
        gains = [table[seed][name] - table[seed]["paper's bag"] for seed in seeds]
        mean, low, high = mean_interval(gains)
        gain = with_interval(mean, [low, high])
        print(f"{name:50} {np.mean(values):5.1f}   over the paper's bag {gain}")


if __name__ == "__main__":
    main()
