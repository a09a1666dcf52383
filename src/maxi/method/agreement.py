"""Agreement, beyond the paper: a text stays in a video's bag where every model asked finds it near."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maxi.randomness import generator
from maxi.records import Bag

SAMPLE = 2000  # videos that tell how near a text is to any
CHUNK = 2**16  # pairs of video and text at a time

Rows = NDArray[np.float32]


def near_texts(
    bags: Sequence[Bag],
    models: Sequence[tuple[Rows, Callable[[Sequence[str]], Rows]]],
    *,
    far: float = 0.5,
    seed: int = 0,
) -> list[Bag]:
    """The bags without the texts that some model finds far from their video.

    A model is z_v (V, D) of the bags' videos and what embeds texts (U, D), all unit norm. A text is far from a video
    when its cosine is below that of the share `far` of all videos with the same text: texts are compared with
    themselves alone, since some are near to every video.
    """
    texts = list(dict.fromkeys(t.text for bag in bags for t in bag.texts))
    if not texts:
        return list(bags)
    place = {text: k for k, text in enumerate(texts)}
    row = np.repeat(np.arange(len(bags)), [len(bag.texts) for bag in bags])
    column = np.array([place[t.text] for bag in bags for t in bag.texts])
    near = np.ones(len(row), dtype=bool)
    some = generator("agreement", seed).permutation(len(bags))[:SAMPLE]
    for z_v, embed in models:
        z_t = embed(texts)
        size = max(1, CHUNK // len(some))
        parts = [z_t[i : i + size] @ z_v[some].T for i in range(0, len(texts), size)]
        limit = np.concatenate([np.quantile(part, far, axis=1) for part in parts])
        for i in range(0, len(row), CHUNK):
            r, c = row[i : i + CHUNK], column[i : i + CHUNK]
            near[i : i + CHUNK] &= (z_v[r] * z_t[c]).sum(1) >= limit[c]
    kept = iter(near.tolist())
    return [replace(bag, texts=tuple(t for t in bag.texts if next(kept))) for bag in bags]
