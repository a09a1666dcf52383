"""Zero-shot evaluation of models on the same videos, names, prompts, frames and views (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.method.metrics import (
    majority_rate,
    mean_per_class,
    paired_difference,
    ranks,
    top_k,
    wilson,
)
from maxi.records import Video

Scores = NDArray[np.float32]


def label_indices(videos: Sequence[Video], names: Sequence[str]) -> NDArray[np.int64]:
    """Index of each video's label in `names`.

    Raises MaxiError for fewer than two names, and for a video without a label or with one that is not a name.
    """
    if videos and len(names) < 2:
        raise MaxiError(
            "evaluation needs at least two names to choose from; pass more with `maxi eval --names`"
        )
    place = {name: k for k, name in enumerate(names)}
    for video in videos:
        if video.label is None:
            raise MaxiError(
                f"{video.path}: no label; evaluation needs class folders or a csv with a `label` column"
            )
        if video.label not in place:
            raise MaxiError(
                f"{video.path}: label {video.label!r} is not among the evaluated names; add it to them"
            )
    return np.array([place[str(video.label)] for video in videos], dtype=np.int64)


def evaluate(
    scores: Scores, labels: NDArray[np.int64] | Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Accuracy of one model: cosines (V, K) and true labels (V,), places in `names` -> a record in percent.

    `top1_interval` is Wilson's 95 % interval; `per_class` maps each label that occurs to (right, n); `majority` is
    what always saying the commonest label gives.
    """
    labels = np.asarray(labels)
    rank = ranks(scores, labels)
    n = len(labels)
    return {
        "n": n,
        "n_names": len(names),
        "top1": round(top_k(rank, 1), 2),
        "top1_interval": [round(x, 2) for x in wilson(float((rank == 0).sum()), n)],
        "top5": round(top_k(rank, 5), 2),
        "top5_interval": [round(x, 2) for x in wilson(float((rank < 5).sum()), n)],
        "mean_per_class": round(mean_per_class(rank, labels), 2),
        "majority": round(majority_rate(labels), 2),
        "per_class": {
            names[k]: [int((rank[labels == k] == 0).sum()), int((labels == k).sum())]
            for k in np.unique(labels)
        },
    }


def compare(frozen: Scores, adapted: Scores, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Paired gains of the adapted over the frozen model on the same videos, in points, with 95 % intervals."""
    before, after = ranks(frozen, labels), ranks(adapted, labels)
    gains = {}
    for name, k in (("top1", 1), ("top5", 5)):
        gained, lost = (
            int(((before >= k) & (after < k)).sum()),
            int(((before < k) & (after >= k)).sum()),
        )
        gain, low, high = paired_difference(gained, lost, len(labels))
        gains[name] = {"gain": round(gain, 2), "interval": [round(low, 2), round(high, 2)]}
    return gains


def predictions(
    videos: Sequence[Video], scores: Mapping[str, Scores], names: Sequence[str], k: int = 5
) -> list[dict[str, Any]]:
    """Per video its path, label if known, and each model's k best names with their cosines."""
    rows: list[dict[str, Any]] = []
    for i, video in enumerate(videos):
        row: dict[str, Any] = {"video": video.id, "path": video.path, "label": video.label}
        for model, table in scores.items():
            best = np.argsort(-table[i], kind="stable")[:k]
            row[model] = [[names[j], round(float(table[i, j]), 4)] for j in best]
        rows.append(row)
    return rows
