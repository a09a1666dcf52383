"""Texts and action names -> unit-norm embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maxi.models.video_clip import VideoCLIP
from maxi.text.clean import KINETICS_TEMPLATES, with_name

BATCH = 256  # texts encoded at a time


@torch.inference_mode()
def embed_texts(model: VideoCLIP, texts: Sequence[str]) -> Tensor:
    """Texts -> (N, D), unit norm, float32 on the CPU."""
    parts = [
        model.encode_text(model.backbone.tokenize(texts[i : i + BATCH])).float().cpu()
        for i in range(0, len(texts), BATCH)
    ]
    return torch.cat(parts)


def embed_names(
    model: VideoCLIP, names: Sequence[str], templates: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Names -> z_l (K, D): the mean over prompts of unit-norm text embeddings, unit norm again.

    `templates` are by default the 28 Kinetics templates, which the paper uses for matching only (appendix B);
    evaluation uses one prompt, such as `["a photo of {}."]`.
    """
    templates = templates or KINETICS_TEMPLATES
    texts = [with_name(template, name) for name in names for template in templates]
    z_t = embed_texts(model, texts).view(len(names), len(templates), -1)  # (K, P, D)
    return F.normalize(z_t.mean(1), dim=-1).numpy()


def embed_names_with_phrases(
    model: VideoCLIP, names: Sequence[str], phrases: Mapping[str, Sequence[str]], template: str
) -> NDArray[np.float32]:
    """Names -> (K, D): half the name's embedding, half the mean over its phrases', unit norm; beyond the paper.

    A name without phrases stands for itself.
    """
    z_l = torch.from_numpy(embed_names(model, names, [template]))
    texts = [text for name in names for text in phrases.get(name, ())]
    if not texts:
        return z_l.numpy()
    z_t = torch.from_numpy(embed_names(model, texts, [template]))
    counts = [len(phrases.get(name, ())) for name in names]
    means = [
        part.mean(0) if len(part) else z for part, z in zip(z_t.split(counts), z_l, strict=True)
    ]
    return F.normalize((z_l + torch.stack(means)) / 2, dim=-1).numpy()
