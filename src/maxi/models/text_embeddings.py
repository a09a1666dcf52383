"""Embed texts and action names with unit norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maxi.errors import MaxiError
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
    return finite(torch.cat(batches), "texts")


def finite(embeddings: Tensor, of: str) -> Tensor:
    """Return the embeddings (N, D); MaxiError when one is not finite. `of` says in the message what they are of."""
    if not torch.isfinite(embeddings).all():
        raise MaxiError(
            f"the model's embeddings of {of} are not finite; check its weights, or train again with a lower `train.lr`"
        )
    return embeddings


def embed_names(
    model: VideoCLIP, names: Sequence[str], templates: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Return z_l (K, D) of K names: the mean over all prompts of their unit-norm embeddings, at unit norm again.

    `templates` are by default the 28 Kinetics templates, which the paper uses for matching only (appendix B).
    Evaluation uses one prompt, such as `["a photo of {}."]`. Raises MaxiError when the model reads two names alike.
    """
    templates = templates or KINETICS_TEMPLATES
    _refuse_equal(model, names, [with_name(templates[0], name) for name in names])
    texts = [with_name(template, name) for name in names for template in templates]
    z_t = embed_texts(model, texts).view(len(names), len(templates), -1)  # (K, P, D)
    return F.normalize(z_t.mean(1), dim=-1).numpy()


def _refuse_equal(model: VideoCLIP, names: Sequence[str], prompts: Sequence[str]) -> None:
    """Raise MaxiError when two different names are the same tokens to the model: it cannot tell them apart."""
    names_of_tokens: dict[tuple[int, ...], str] = {}
    tokens = next(iter(model.backbone.tokenize(prompts).values())).flatten(1).tolist()
    for name, row in zip(names, tokens, strict=True):
        first = names_of_tokens.setdefault(tuple(row), name)
        if first != name:
            raise MaxiError(
                f"the model reads the names {first[:200]!r} and {name[:200]!r} alike, since it ignores case and reads "
                f"at most {len(row)} tokens of a text; shorten them so that they differ early, or remove one"
            )


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
    z_t = embed_texts(model, [with_name(template, text) for text in texts])
    z_t_of_names = z_t.split([len(phrases.get(name, ())) for name in names])
    phrase_means = [
        z_phrases.mean(0) if len(z_phrases) else z_name
        for z_phrases, z_name in zip(z_t_of_names, z_l, strict=True)
    ]
    return F.normalize((z_l + torch.stack(phrase_means)) / 2, dim=-1).numpy()
