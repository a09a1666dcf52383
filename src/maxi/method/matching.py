"""Match: find the name nearest to each video, and mark the most confident matches (section 3.2, Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.method.metrics import normalised_entropy
from maxi.method.mixture import Linear
from maxi.randomness import shuffled
from maxi.records import Match, Other, Video
from maxi.text.names import same

CHUNK = 2**22  # cosines computed at a time: 16 MB

# Matches are taken as collapsed when one name is on more than this share of the videos (with few names: on more than
# 1.5 times its even share), or when their entropy is below this limit.
COLLAPSED_SHARE, COLLAPSED_ENTROPY = 0.3, 0.5


def match(
    videos: Sequence[str],
    z_v: NDArray[np.float32],
    names: Sequence[str],
    z_l: NDArray[np.float32],
    *,
    keep: float = 0.9,
    per_name: bool = False,
    top_k: int = 1,
    tau: float = 0.02,
    margin: bool = False,
    linear: Linear | None = None,
) -> list[Match]:
    """Match every video to its nearest name by cosine; `kept` marks the `keep` share with the highest scores.

    `videos` are V ids, and z_v (V, D) and z_l (K, D) have unit norm. All videos share one threshold (section 3.2,
    "Filtering text bags"). With `per_name` the videos of each name have their own, so that a name whose cosines are low
    keeps the same share. A video whose score equals the threshold is kept. With `top_k` above 1 matching is soft:
    `others` are the next nearest names, each with the weight exp((its cosine - the highest cosine) / tau). With
    `linear` its scores decide in place of the cosines. The score of a match is its cosine or, with `margin`, by how
    much what decides is above that of the next name.

    Raises MaxiError when there is nothing to match, or an embedding is not finite.
    """
    if not len(videos) or not len(names):
        raise MaxiError("matching needs at least one readable video and one action name; add them")
    best = np.empty(len(videos), dtype=np.int64)
    scores = np.empty(len(videos), dtype=np.float32)
    others: list[tuple[Other, ...]] = []
    size = max(1, CHUNK // len(names))
    for start in range(0, len(videos), size):
        chunk = slice(start, start + size)
        cosines = z_v[chunk] @ z_l.T  # (V, D) x (D, K) -> (V, K)
        compared = linear.compare(z_v[chunk]) if linear else cosines
        best[chunk] = compared.argmax(1)
        scores[chunk] = _margins(compared) if margin else cosines[range(len(cosines)), best[chunk]]
        others += _others(compared, names, min(top_k, len(names)), tau)
    if not np.isfinite(scores).all():
        broken = videos[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise MaxiError(
            f"video {broken}: its embedding is not finite; check the backbone's weights"
        )
    kept = keep_confident(scores, keep, best if per_name else None)
    return [
        Match(video, names[best[i]], round(float(scores[i]), 6), bool(kept[i]), others[i])
        for i, video in enumerate(videos)
    ]


def by_labels(
    videos: Sequence[Video], names: Sequence[str], shots: int | None = None, seed: int = 0
) -> list[Match]:
    """Return the videos' own labels as matches; this is the only way by which labels come into training.

    With `shots`, so many videos of each name are kept, drawn by (seed, video ids) alone. Raises MaxiError when a video
    has no label or a label that is not among the names, and when a name has some videos but fewer than `shots`.
    """
    names_of_keys = {same(name): name for name in names}
    for video in videos:
        if video.label is None or same(video.label) not in names_of_keys:
            fault = "has no label"
            if video.label is not None:
                fault = f"has the label {video.label!r}, which is not among the {len(names)} names"
            raise MaxiError(
                f"{video.path} {fault}; mend the list, or match without `match.supervised`"
            )
    matched = {v.id: names_of_keys[same(str(v.label))] for v in videos}
    kept = set(matched)
    if shots:
        kept = set()
        for name in sorted(set(matched.values())):
            ids = shuffled([v.id for v in videos if matched[v.id] == name], "shots", seed)
            if len(ids) < shots:
                raise MaxiError(
                    f"{name!r} has {len(ids)} videos, fewer than {shots} shots; "
                    "add videos or lower `match.shots`"
                )
            kept |= set(ids[:shots])
    return [Match(v.id, matched[v.id], 1.0, v.id in kept) for v in videos]


def _margins(compared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much the best of each row (V, K) is above the next: (V,); with one name, its value."""
    if compared.shape[1] == 1:
        return compared[:, 0]
    second, first = np.partition(compared, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def _others(
    cosines: NDArray[np.float32], names: Sequence[str], top_k: int, tau: float
) -> list[tuple[Other, ...]]:
    """Return the 2nd to the `top_k`-th nearest name of each video with their weights, from cosines (V, K)."""
    if top_k == 1:
        return [()] * len(cosines)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :top_k]
    top = np.take_along_axis(cosines, order, 1)
    weights = np.exp((top - top[:, :1]) / tau).clip(1e-6)
    return [
        tuple(Other(names[order[i, n]], round(float(weights[i, n]), 6)) for n in range(1, top_k))
        for i in range(len(cosines))
    ]


def keep_confident(
    score: NDArray[np.float32], keep: float, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Mark the scores (V,) that are among the highest `keep` share of all, or of their own group: (V,).

    `groups` (V,) says to which group each score belongs.
    """
    groups = np.zeros(len(score), dtype=np.int64) if groups is None else groups
    kept = np.zeros(len(score), dtype=bool)
    for group in np.unique(groups):
        members = groups == group
        scores = score[members]
        n_dropped = len(scores) - max(1, round(keep * len(scores)))
        kept[members] = scores >= np.partition(scores, n_dropped)[n_dropped]
    return kept


def entropy(matches: Sequence[Match], names: Sequence[str]) -> float:
    """Return the normalised entropy of the matched names: 1 when all names match equally often, 0 when one has all."""
    counts = Counter(m.name for m in matches)
    return normalised_entropy(np.array([counts[name] for name in names]))


def warnings(matches: Sequence[Match], names: Sequence[str]) -> list[str]:
    """Return a sentence for each sign that the matches have collapsed."""
    sentences = []
    name, count = Counter(m.name for m in matches).most_common(1)[0]
    share = count / len(matches)
    if share > max(COLLAPSED_SHARE, 1.5 / len(names)) and len(names) > 1:
        sentences.append(
            f"{share:.0%} of the videos match one name, {name!r}: if they do not show it, the matches have collapsed; "
            "check the action names, or drop that one."
        )
    spread = entropy(matches, names)
    if spread < COLLAPSED_ENTROPY and len(names) > 2:
        sentences.append(
            f"the matches spread over few of the {len(names)} names (normalised entropy {spread:.2f}): training on "
            "them mostly repeats the backbone's habits."
        )
    return sentences
