"""Embed texts and action names with unit norm."""

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
    """Return the embeddings of N texts: (N, D), unit norm, float32 on the CPU."""
    batches = [
        model.encode_text(model.backbone.tokenize(texts[i : i + BATCH])).float().cpu()
        for i in range(0, len(texts), BATCH)
    ]
    return torch.cat(batches)


def embed_names(
    model: VideoCLIP, names: Sequence[str], templates: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Return z_l (K, D) of K names: the mean over all prompts of their unit-norm embeddings, at unit norm again.

    `templates` are by default the 28 Kinetics templates, which the paper uses for matching only (appendix B).
    Evaluation uses one prompt, such as `["a photo of {}."]`.
    """
    templates = templates or KINETICS_TEMPLATES
    texts = [with_name(template, name) for name in names for template in templates]
    z_t = embed_texts(model, texts).view(len(names), len(templates), -1)  # (K, P, D)
    return F.normalize(z_t.mean(1), dim=-1).numpy()


def embed_names_with_phrases(
    model: VideoCLIP, names: Sequence[str], phrases: Mapping[str, Sequence[str]], template: str
) -> NDArray[np.float32]:
    """Return embeddings (K, D) of K names, each the mean of its own embedding and of the mean of its phrases.

    They have unit norm. A name without phrases keeps its own embedding. This goes beyond the paper.
    """
    z_l = torch.from_numpy(embed_names(model, names, [template]))
    texts = [text for name in names for text in phrases.get(name, ())]
    if not texts:
        return z_l.numpy()
    z_t = torch.from_numpy(embed_names(model, texts, [template]))
    z_t_of_names = z_t.split([len(phrases.get(name, ())) for name in names])
    phrase_means = [
        z_phrases.mean(0) if len(z_phrases) else z_name
        for z_phrases, z_name in zip(z_t_of_names, z_l, strict=True)
    ]
    return F.normalize((z_l + torch.stack(phrase_means)) / 2, dim=-1).numpy()
