"""Texts and names -> unit-norm embeddings; scores of videos against names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
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


def averaged_embeddings(
    model: VideoCLIP, names: Sequence[str], phrases: Mapping[str, Sequence[str]], template: str
) -> Tensor:
    """Names -> (K, D): half the name's embedding, half the mean over its phrases', unit norm; beyond the paper.

    A name without phrases stands for itself.
    """
    z_l = name_embeddings(model, names, [template])
    texts = [text for name in names for text in phrases.get(name, ())]
    if not texts:
        return z_l
    z_t = name_embeddings(model, texts, [template])
    counts = [len(phrases.get(name, ())) for name in names]
    means = [
        part.mean(0) if len(part) else z for part, z in zip(z_t.split(counts), z_l, strict=True)
    ]
    return F.normalize((z_l + torch.stack(means)) / 2, dim=-1)


def name_embeddings(
    model: VideoCLIP, names: Sequence[str], templates: Sequence[str] | None = None
) -> Tensor:
    """Names -> z_l (K, D): the mean over prompts of unit-norm text embeddings, unit norm again.

    `templates` defaults to the 28 Kinetics templates, which the paper uses for matching only (appendix B).
    """
    templates = templates or KINETICS_TEMPLATES
    texts = [with_name(template, name) for name in names for template in templates]
    z_t = embed_texts(model, texts).view(len(names), len(templates), -1)  # (K, P, D)
    return F.normalize(z_t.mean(1), dim=-1)
