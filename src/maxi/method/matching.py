"""Match: video -> nearest name, and the confident share of them (section 3.2, Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.method.metrics import normalised_entropy
from maxi.randomness import shuffled
from maxi.records import Match, Other, Video

CHUNK = 2**22  # scores at a time: 16 MB

# A name on more than this share of the videos (of few names: on half as many again as its even share), or an entropy
# below this, is what a collapsed match looks like.
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
) -> list[Match]:
    """Match every video to its nearest name by cosine; `kept` marks the `keep` share with the highest scores.

    z_v (V, D) and z_l (K, D) have unit norm. One threshold holds for all videos (section 3.2, "Filtering text bags"),
    or with `per_name` one for the videos of each name, so that no name is kept less than another because its cosines
    are lower; videos that tie with it are kept. With `top_k` above 1 matching is soft: `others` are the next nearest
    names, each with the weight exp((its cosine - the best one) / tau). Raises MaxiError when there is nothing to match
    or an embedding is not finite.
    """
    if not len(videos) or not len(names):
        raise MaxiError("matching needs at least one readable video and one action name")
    best = np.empty(len(videos), dtype=np.int64)
    score = np.empty(len(videos), dtype=np.float32)
    others: list[tuple[Other, ...]] = []
    n_rows = max(1, CHUNK // len(names))
    for start in range(0, len(videos), n_rows):
        part = slice(start, start + n_rows)
        cosine = z_v[part] @ z_l.T  # (V, D) x (D, K) -> (V, K)
        best[part] = cosine.argmax(1)
        score[part] = cosine.max(1)
        others += _others(cosine, names, min(top_k, len(names)), tau)
    if not np.isfinite(score).all():
        bad = videos[int(np.flatnonzero(~np.isfinite(score))[0])]
        raise MaxiError(f"video {bad}: its embedding is not finite; check the backbone's weights")
    kept = keep_confident(score, keep, best if per_name else None)
    return [
        Match(video, names[b], round(float(s), 6), k, o)
        for video, b, s, k, o in zip(
            videos, best.tolist(), score, kept.tolist(), others, strict=True
        )
    ]


def by_labels(
    videos: Sequence[Video], names: Sequence[str], shots: int | None = None, seed: int = 0
) -> list[Match]:
    """The videos' own labels as matches: the one door by which labels come into training.

    With `shots` K videos of each name are kept, drawn by (seed, video ids) alone. Raises MaxiError when a video has no
    label or one that is not among the names, or a name has some videos but fewer than K.
    """
    for video in videos:
        if video.label not in names:
            fault = "has no label" if video.label is None else f"is labelled {video.label!r}"
            raise MaxiError(
                f"{video.path} {fault}, which is none of the {len(names)} action names;"
                " mend the list, or match without `match.supervised`"
            )
    kept = {v.id for v in videos}
    if shots:
        kept = set()
        for name in sorted({str(v.label) for v in videos}):
            ids = shuffled([v.id for v in videos if v.label == name], "shots", seed)
            if len(ids) < shots:
                raise MaxiError(f"{name!r} has {len(ids)} videos, fewer than {shots} shots")
            kept |= set(ids[:shots])
    return [Match(v.id, str(v.label), 1.0, v.id in kept) for v in videos]


def _others(
    cosine: NDArray[np.float32], names: Sequence[str], top_k: int, tau: float
) -> list[tuple[Other, ...]]:
    if top_k == 1:
        return [()] * len(cosine)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :top_k]
    top = np.take_along_axis(cosine, order, 1)
    weights = np.exp((top - top[:, :1]) / tau).clip(1e-6)
    return [
        tuple(Other(names[k], round(float(w), 6)) for k, w in zip(row[1:], weight[1:], strict=True))
        for row, weight in zip(order.tolist(), weights, strict=True)
    ]


def keep_confident(
    score: NDArray[np.float32], keep: float, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which of the scores (V,) are among the highest `keep` share of all, or of their own group (V,)."""
    groups = np.zeros(len(score), dtype=np.int64) if groups is None else groups
    kept = np.zeros(len(score), dtype=bool)
    for group in np.unique(groups):
        of_group = score[groups == group]
        n_dropped = len(of_group) - max(1, round(keep * len(of_group)))
        kept[groups == group] = of_group >= np.partition(of_group, n_dropped)[n_dropped]
    return kept


def entropy(matches: Sequence[Match], names: Sequence[str]) -> float:
    """Normalised entropy of the matched names over all names: 1 is even, 0 is one name for all."""
    counts = Counter(m.name for m in matches)
    return normalised_entropy(np.array([counts[name] for name in names]))


def warnings(matches: Sequence[Match], names: Sequence[str]) -> list[str]:
    """What about these matches should worry the user, one sentence each."""
    sentences = []
    name, count = Counter(m.name for m in matches).most_common(1)[0]
    share = count / len(matches)
    if share > max(COLLAPSED_SHARE, 1.5 / len(names)) and len(names) > 1:
        sentences.append(
            f"{share:.0%} of the videos match one name, {name!r}: if they do not show it, the matches have collapsed; "
            "check the action names, or drop that one."
        )
    even = entropy(matches, names)
    if even < COLLAPSED_ENTROPY and len(names) > 2:
        sentences.append(
            f"the matches spread over few of the {len(names)} names (normalised entropy {even:.2f}): training on them "
            "mostly repeats the backbone's habits."
        )
    return sentences
