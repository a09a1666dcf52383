"""Agreement, beyond the paper: a text stays in a video's bag only when every given model finds it near the video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maxi.randomness import generator
from maxi.records import Bag

SAMPLE = 2000  # videos from which each text's usual cosines are estimated
CHUNK = 2**16  # pairs of a video and a text that are compared at a time

Embeddings = NDArray[np.float32]


def near_texts(
    bags: Sequence[Bag],
    models: Sequence[tuple[Embeddings, Callable[[Sequence[str]], Embeddings]]],
    *,
    far: float = 0.5,
    seed: int = 0,
) -> list[Bag]:
    """Return the bags without the texts that at least one model finds far from their video.

    A model is given as the embeddings z_v (V, D) of the bags' videos, and a function that returns the embeddings
    (U, D) of U texts; all have unit norm. A text is far from a video when their cosine is below the `far` quantile of
    the cosines between that text and all videos (estimated from at most 2000 of them). Each text has its own limit,
    since some texts are near to every video.
    """
    texts = list(dict.fromkeys(t.text for bag in bags for t in bag.texts))
    if not texts:
        return list(bags)
    text_indices = {text: u for u, text in enumerate(texts)}
    # One pair of a video and a text for each text of each bag, in the order of the bags.
    pair_videos = np.repeat(np.arange(len(bags)), [len(bag.texts) for bag in bags])
    pair_texts = np.array([text_indices[t.text] for bag in bags for t in bag.texts])
    near = np.ones(len(pair_videos), dtype=bool)
    sample = generator("agreement", seed).permutation(len(bags))[:SAMPLE]
    for z_v, embed in models:
        z_t = embed(texts)
        size = max(1, CHUNK // len(sample))
        cosines = [z_t[u : u + size] @ z_v[sample].T for u in range(0, len(texts), size)]
        limits = np.concatenate([np.quantile(part, far, axis=1) for part in cosines])  # (U,)
        for start in range(0, len(near), CHUNK):
            chunk = slice(start, start + CHUNK)
            i, u = pair_videos[chunk], pair_texts[chunk]
            near[chunk] &= (z_v[i] * z_t[u]).sum(1) >= limits[u]
    is_near = iter(near.tolist())
    return [replace(bag, texts=tuple(t for t in bag.texts if next(is_near))) for bag in bags]
