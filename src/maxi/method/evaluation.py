"""Zero-shot evaluation of models on the same videos, names, prompts, frames and views (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.method.metrics import (
    majority_rate,
    mean_average_precision,
    mean_per_class,
    paired_difference,
    ranks,
    top_k,
    wilson,
)
from maxi.records import Video
from maxi.text.names import same

Scores = NDArray[np.float32]


def label_indices(videos: Sequence[Video], names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each video's label in `names`: (V,).

    Raises MaxiError for fewer than two names, and for a video that has no label or a label that is not in `names`.
    """
    if videos and len(names) < 2:
        raise MaxiError(
            "evaluation needs at least two names to choose from; pass more with `maxi eval --names`"
        )
    indices = {same(name): k for k, name in enumerate(names)}
    for video in videos:
        if video.label is None:
            raise MaxiError(
                f"{video.path}: no label; evaluation needs class folders or a csv with a `label` column"
            )
        if same(video.label) not in indices:
            raise MaxiError(
                f"{video.path}: label {video.label!r} is not among the evaluated names; add it to them"
            )
    return np.array([indices[same(str(video.label))] for video in videos], dtype=np.int64)


def evaluate(
    scores: Scores, labels: NDArray[np.int64] | Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Return the accuracies of one model in percent, from cosines (V, K) and true labels (V,), as indices into `names`.

    `top1_interval` and `top5_interval` are Wilson's 95 % intervals. `per_class` maps each label that occurs to
    (right answers, videos). `majority` is the top-1 accuracy of always answering the commonest label.
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


def evaluate_several(
    scores: Scores, labels: Sequence[Sequence[int]], names: Sequence[str], scale: float
) -> dict[str, Any]:
    """Return the mean average precision of one model in percent, where a video may show several actions.

    `scores` are cosines (V, K), `labels` the indices of each video's names. `map_cosine` ranks the videos of a name by
    the cosines. `map_softmax` ranks them, as the released code does, by the softmax over all names of the cosines times
    `scale`, the model's 1 / sigma; it depends on the scale.
    """
    truth = np.zeros(scores.shape, dtype=bool)
    for row, labels_of_video in zip(truth, labels, strict=True):
        row[list(labels_of_video)] = True
    logits = scores.astype(np.float64) * scale
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    by_cosine, n_right = mean_average_precision(scores, truth)
    by_softmax, _ = mean_average_precision(shares, truth)
    return {
        "n": len(scores),
        "n_names": len(names),
        "names_that_occur": n_right,
        "map_softmax": round(by_softmax, 2),
        "map_cosine": round(by_cosine, 2),
        "softmax_scale": round(scale, 3),
    }


def compare(frozen: Scores, adapted: Scores, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return the gains of the adapted over the frozen model on the same videos, in points, with 95 % intervals.

    Both score arrays are (V, K), and the labels are (V,).
    """
    before, after = ranks(frozen, labels), ranks(adapted, labels)
    gains = {}
    for name, k in (("top1", 1), ("top5", 5)):
        n_gained = int(((before >= k) & (after < k)).sum())
        n_lost = int(((before < k) & (after >= k)).sum())
        gain, low, high = paired_difference(n_gained, n_lost, len(labels))
        gains[name] = {"gain": round(gain, 2), "interval": [round(low, 2), round(high, 2)]}
    return gains


def predictions(
    videos: Sequence[Video], scores: Mapping[str, Scores], names: Sequence[str], k: int = 5
) -> list[dict[str, Any]]:
    """Return a row per video: its id, path, label (or None), and each model's `k` best names with their cosines."""
    rows: list[dict[str, Any]] = []
    for i, video in enumerate(videos):
        row: dict[str, Any] = {"video": video.id, "path": video.path, "label": video.label}
        for model, cosines in scores.items():
            best = np.argsort(-cosines[i], kind="stable")[:k]
            row[model] = [[names[j], round(float(cosines[i, j]), 4)] for j in best]
        rows.append(row)
    return rows
