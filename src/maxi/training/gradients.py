"""The loss of a whole batch and its exact gradient, from graphs of a few videos, in one process or several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError, choose
from maxi.features.embedding import to_pixels
from maxi.method.objectives import OBJECTIVES, contrasted
from maxi.models.video_clip import VideoCLIP
from maxi.training.batches import collate_classes, collate_texts, kept_patches
from maxi.training.distributed import World
from maxi.training.schedule import Step

logger = logging.getLogger(__name__)

Encoded: TypeAlias = tuple[Tensor, Callable[[Tensor], None]]
"""Features (N, D) without those of other processes, and what carries their gradient back to the parameters."""


@dataclass(frozen=True)
class Share:
    """A step, and of its batch what this process encodes: the bags' inputs, in their order."""

    step: Step
    own: Sequence[str]
    inputs: Tensor


class Contrast:
    """The objective over (video, bag) batches of a model: its value, and the gradient that it leaves in parameters.

    With a `frozen` model, `config.distill` times the drift from its embeddings is added.
    """

    def __init__(
        self,
        model: VideoCLIP,
        config: TrainConfig,
        *,
        classes: Sequence[str],
        seed: int,
        world: World,
        learning: Sequence[Tensor],
        frozen: VideoCLIP | None = None,
    ) -> None:
        self.model, self.config, self.world = model, config, world
        self.classes, self.seed, self.learning, self.frozen = classes, seed, learning, frozen
        self.objective = contrasted(
            choose(OBJECTIVES, config.objective, "objective"), config.contrast, config.text_to_video
        )
        self.cached = config.trainable == "head"
        self._encode_video = (
            torch.compile(model.encode_video) if config.compile else model.encode_video
        )

    def value(self, share: Share, micro: int) -> float:
        """The loss of the whole batch; every process returns it."""
        with torch.no_grad():
            loss, _ = self._loss(share, micro, tunes=(False, False))
        return loss.item()

    def backward(self, share: Share, micro: int) -> float:
        """The loss of the whole batch, and in every learning parameter its gradient, from graphs of `micro` videos.

        Raises MaxiError when it is not finite, with the video ids.
        """
        tunes = (self.config.trainable != "text", self.config.trainable != "visual")
        loss, carry = self._loss(share, micro, tunes=tunes)
        if not torch.isfinite(loss):
            ids = ", ".join(bag.video for bag in share.step.bags[:8])
            raise MaxiError(
                f"step {share.step.number}: the loss is not finite; lower `lr` or raise `sigma` (videos {ids}, ...)"
            )
        for parameter in self.learning:
            parameter.grad = None

        def back() -> None:
            loss.backward()
            carry()

        self.world.together(back)
        if self.model.logit_scale.grad is not None:
            self.model.logit_scale.grad /= self.world.size  # every process has the whole of it
        self.world.sum_gradients(self.learning)
        return loss.item()

    def _loss(
        self, share: Share, micro: int, *, tunes: tuple[bool, bool]
    ) -> tuple[Tensor, Callable[[], None]]:
        """The loss from gathered features, and what carries their gradient back to this process's parameters."""
        step, model, world = share.step, self.model, self.world
        texts, index, weight, positives = (
            collate_classes(step, self.config, self.classes)
            if self.config.objective == "cross_entropy"
            else collate_texts(step, self.config, self.seed)
        )
        weight = weight.to(model.device)
        # Each distinct text once; a process that has none of them encodes one and keeps no row of it.
        part = world.part(texts)
        tokens = model.backbone.tokenize(part or texts[:1])

        def encoded() -> tuple[Encoded, Encoded]:
            videos = _encode(self._videos, self._clips(share, micro), tunes[0])
            few = _split(tokens, micro * self.config.n_bag)
            return videos, _encode(lambda some: self._texts(some)[: len(part)], few, tunes[1])

        (own_videos, videos_back), (own_texts, texts_back) = world.together(encoded)
        (z_v, at_videos), (z_t, at_texts) = world.gather(own_videos), world.gather(own_texts)
        z_v.requires_grad_(tunes[0])  # (B, D)
        z_t.requires_grad_(tunes[1])  # (U, D)
        z_t_of_bags = z_t[index.to(model.device)]  # (U, D) -> (B, N, D)
        logits = (
            torch.einsum("id,jnd->ijn", z_v.float(), z_t_of_bags.float()) * model.logit_scale.exp()
        )
        # w exp(x) = exp(x + log w): a text's weight in every sum of Eq. 2.
        loss = self.objective(logits + weight.log(), weight > 0, positives.to(model.device))
        if self.frozen:
            drift = self._drift(share, micro, tokens, len(part), (z_v, z_t))
            loss = loss + self.config.distill * drift

        def carry() -> None:
            for z, back, at in ((z_v, videos_back, at_videos), (z_t, texts_back, at_texts)):
                if z.grad is not None:
                    back(z.grad[at])

        return loss, carry

    def _drift(
        self,
        share: Share,
        micro: int,
        tokens: Mapping[str, Tensor],
        n_texts: int,
        ours: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Mean of one minus the cosine between embeddings of the same clips, and texts, now and by the frozen model."""
        config = self.config

        def encoded() -> tuple[Tensor, Tensor]:
            of_videos = [self._videos(part, self.frozen) for part in self._clips(share, micro)]
            of_texts = [
                self._texts(part, self.frozen) for part in _split(tokens, micro * config.n_bag)
            ]
            return torch.cat(of_videos), torch.cat(of_texts)[:n_texts]

        with torch.no_grad():
            rows = self.world.together(encoded)
            theirs = [self.world.gather(z)[0] for z in rows]
        drifts = [1 - (z * old).sum(1).mean() for z, old in zip(ours, theirs, strict=True)]
        return torch.stack(drifts).mean()

    def _clips(self, share: Share, micro: int) -> list[tuple[Tensor, Tensor | None]]:
        """What one graph encodes: clips (b, T, C, S, S) or features (b, T, F), and the patches that are read (b, P)."""
        parts = share.inputs.split(micro)
        if not self.config.patch_dropout:
            return [(part, None) for part in parts]
        blocks = self.model.backbone.image_blocks
        assert blocks  # `equip` refuses the setting otherwise
        kept = kept_patches(
            share.own, share.step.epoch, blocks.n_patches, self.config.patch_dropout, self.seed
        )
        return list(zip(parts, kept.to(self.model.device).split(micro), strict=True))

    def _videos(self, part: tuple[Tensor, Tensor | None], model: VideoCLIP | None = None) -> Tensor:
        inputs, kept = part
        with self._precision():
            if self.cached:
                return (model or self.model).embed_features(inputs.to(self.model.device))
            encode = model.encode_video if model else self._encode_video
            return encode(to_pixels(self.model, inputs), kept)

    def _texts(self, tokens: Mapping[str, Tensor], model: VideoCLIP | None = None) -> Tensor:
        with self._precision():
            return (model or self.model).encode_text(tokens)

    def _precision(self) -> torch.autocast:
        half = self.config.precision == "bfloat16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=half)


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 on devices that multiply it by themselves, otherwise float32; slow choices are warned of."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        able = able and device.type == "cpu"
    if name == "bfloat16" and not able:
        logger.warning(
            "this %s has no bfloat16 of its own, which can take many times as long; better: -s precision=auto",
            "processor" if device.type == "cpu" else "device",
        )
    return name if name != "auto" else ("bfloat16" if able else "float32")


def within_memory(
    backward: Callable[[Share, int], float], share: Share, micro: int
) -> float | None:
    """The loss of a step, or None when it needs smaller graphs; raises OutOfMemoryError when there are none."""
    try:
        return backward(share, micro)
    except torch.OutOfMemoryError:
        if micro == 1:
            raise
    torch.cuda.empty_cache()  # here, where no traceback keeps the graph alive
    return None


def _encode(encode: Callable[[Any], Tensor], parts: Sequence[Any], tuned: bool) -> Encoded:
    """Features of all parts, and what carries their gradient back when the loss has told it.

    Several parts are encoded without a graph first and once more, one graph at a time, when the gradient of their
    features is known: memory is that of one part, the gradient that of the whole batch.
    """
    if len(parts) == 1:
        with torch.set_grad_enabled(tuned):
            z = encode(parts[0])
        return z, z.backward
    with torch.no_grad():
        rows = [encode(part) for part in parts]

    def back(gradient: Tensor) -> None:
        for part, of_part in zip(parts, gradient.split([len(r) for r in rows]), strict=True):
            encode(part).backward(of_part)

    return torch.cat(rows), back


def _split(tokens: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    n = len(next(iter(tokens.values())))
    return [{k: v[i : i + size] for k, v in tokens.items()} for i in range(0, n, size)]
