"""The loss of a whole batch and its exact gradient, computed from graphs of a few videos, in one process or several."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from maxi.config import TrainConfig
from maxi.errors import MaxiError, choose, some
from maxi.features.embedding import to_pixels
from maxi.method.objectives import OBJECTIVES, contrasted
from maxi.models.video_clip import VideoCLIP
from maxi.training.batches import collate_classes, collate_texts, kept_patches
from maxi.training.distributed import World
from maxi.training.schedule import Step

logger = logging.getLogger(__name__)

Encoded: TypeAlias = tuple[Tensor, Callable[[Tensor], None]]
"""This process's embeddings (N, D), and a function that carries their gradient back to the parameters."""

Clips: TypeAlias = tuple[Tensor, Tensor | None]
"""Clips (b, T, C, S, S) or features (b, T, F), and the patches of them to read (b, P), None when all are read."""


@dataclass(frozen=True)
class Share:
    """A step with the bags of all processes, and the part of its batch that this process encodes.

    `own` holds the ids of this process's videos, and `inputs` their clips or features, in the same order.
    """

    step: Step
    own: Sequence[str]
    inputs: Tensor


class Contrast:
    """The objective of a model over batches of videos and bags: its value, and its gradient in the parameters.

    With a `frozen` model, `config.distill` times the drift from its embeddings is added to the loss.
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
        """Return the loss of the whole batch, of which all patches are read, in every process.

        Raises MaxiError with video ids when the loss is not finite.
        """
        with torch.no_grad():
            loss, _ = self._loss(share, micro, videos_learn=False, texts_learn=False)
        return self._finite(loss, share)

    def backward(self, share: Share, micro: int) -> float:
        """Return the loss of the whole batch, and set its gradient in every learning parameter.

        The gradient comes from graphs of `micro` videos. Raises MaxiError with video ids when the loss is not finite.
        """
        trainable = self.config.trainable
        loss, carry_back = self._loss(
            share, micro, videos_learn=trainable != "text", texts_learn=trainable != "visual"
        )
        value = self._finite(loss, share)
        for parameter in self.learning:
            parameter.grad = None

        def run_backward() -> None:
            loss.backward()
            carry_back()

        self.world.together(run_backward)
        if self.model.logit_scale.grad is not None:
            # Every process has the whole gradient of the temperature, and the sum would count it `size` times.
            self.model.logit_scale.grad /= self.world.size
        self.world.sum_gradients(self.learning)
        return value

    def _finite(self, loss: Tensor, share: Share) -> float:
        """Return the loss as a number. Raises MaxiError with video ids when it is not finite."""
        if not math.isfinite(value := loss.item()):
            ids = some([bag.video for bag in share.step.bags], 8)
            raise not_finite(share.step, f"the loss is not finite (videos {ids})", self.config)
        return value

    def _loss(
        self, share: Share, micro: int, *, videos_learn: bool, texts_learn: bool
    ) -> tuple[Tensor, Callable[[], None]]:
        """Return the loss, and a function that carries the embeddings' gradient back to this process's parameters."""
        step, model, world = share.step, self.model, self.world
        texts, indices, weights, positives = (
            collate_classes(step, self.config, self.classes)
            if self.config.objective == "cross_entropy"
            else collate_texts(step, self.config, self.seed)
        )
        weights = weights.to(model.device)
        # Each distinct text is encoded once. A process that gets none encodes one, and keeps no row of it.
        own_texts = world.part(texts)
        tokens = model.backbone.tokenize(own_texts or texts[:1])
        clips = self._clips(share, micro, whole=not (videos_learn or texts_learn))

        def encode_texts(part: Mapping[str, Tensor]) -> Tensor:
            return self._texts(part)[: len(own_texts)]

        def encode_both() -> tuple[Encoded, Encoded]:
            text_parts = _split(tokens, micro * self.config.n_bag)
            videos = _encode(self._videos, clips, videos_learn)
            return videos, _encode(encode_texts, text_parts, texts_learn)

        (own_z_v, carry_videos), (own_z_t, carry_texts) = world.together(encode_both)
        (z_v, own_videos), (z_t, own_rows) = world.gather(own_z_v), world.gather(own_z_t)
        z_v.requires_grad_(videos_learn)  # (B, D)
        z_t.requires_grad_(texts_learn)  # (U, D)
        z_t_of_bags = z_t[indices.to(model.device)]  # (U, D) -> (J, N, D)
        scale = model.logit_scale.exp()
        logits = torch.einsum("id,jnd->ijn", z_v.float(), z_t_of_bags.float()) * scale
        loss = self.objective(logits, weights, positives.to(model.device))
        if self.frozen:
            drift = self._drift(clips, micro, tokens, len(own_texts), (z_v, z_t))
            loss = loss + self.config.distill * drift

        def carry_back() -> None:
            if z_v.grad is not None:
                carry_videos(z_v.grad[own_videos])
            if z_t.grad is not None:
                carry_texts(z_t.grad[own_rows])

        return loss, carry_back

    def _drift(
        self,
        clips: Sequence[Clips],
        micro: int,
        tokens: Mapping[str, Tensor],
        n_texts: int,
        current: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the mean of one minus the cosine between the `current` embeddings and those of the frozen model.

        `current` holds z_v and z_t of the whole batch. Videos and texts count the same.
        """
        config = self.config

        def encode_both() -> tuple[Tensor, Tensor]:
            text_parts = _split(tokens, micro * config.n_bag)
            z_v = torch.cat([self._videos(part, self.frozen) for part in clips])
            z_t = torch.cat([self._texts(part, self.frozen) for part in text_parts])
            return z_v, z_t[:n_texts]

        with torch.no_grad():
            own = self.world.together(encode_both)
            frozen = [self.world.gather(z)[0] for z in own]
        drifts = [1 - (z * old).sum(1).mean() for z, old in zip(current, frozen, strict=True)]
        return torch.stack(drifts).mean()

    def _clips(self, share: Share, micro: int, *, whole: bool) -> list[Clips]:
        """Return the inputs of each graph; where they are `whole`, no patch is dropped."""
        parts = share.inputs.split(micro)
        if whole or not self.config.patch_dropout:
            return [(part, None) for part in parts]
        blocks = self.model.backbone.image_blocks
        assert blocks  # without them `equip` refuses the setting
        kept = kept_patches(
            share.own, share.step.epoch, blocks.n_patches, self.config.patch_dropout, self.seed
        )
        return list(zip(parts, kept.to(self.model.device).split(micro), strict=True))

    def _videos(self, part: Clips, model: VideoCLIP | None = None) -> Tensor:
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


def check_finite(step: Step, parameters: Sequence[Tensor], config: TrainConfig) -> None:
    """Raise MaxiError when a weight is not finite after the step, or a gradient was not.

    All tensors are reduced to one number, so that the device is waited for once. A sum of squares that float32 cannot
    hold counts as not finite.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not math.isfinite(get_total_norm([*(p.detach() for p in parameters), *gradients]).item()):
        raise not_finite(step, "the weights or their gradients are not finite", config)


def not_finite(step: Step, fault: str, config: TrainConfig) -> MaxiError:
    """Return the error that says what is not finite since which step, and what to do."""
    where = f"step {step.number}" if step.number >= 0 else "the held-out videos"
    half = ", or set `train.precision` to float32" if config.precision == "bfloat16" else ""
    return MaxiError(
        f"{where}: {fault}; lower `train.lr` or raise `train.sigma`{half}, and train again (nothing of this step "
        "is saved, the last checkpoint before it remains)"
    )


def resolve_precision(name: str, device: torch.device) -> str:
    """Return `bfloat16` or `float32`: what `auto` stands for on this device, or the name itself.

    `auto` is bfloat16 where the hardware computes in it, otherwise float32. A slow choice is warned of.
    """
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = device.type == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    if name == "bfloat16" and not has_bfloat16:
        logger.warning(
            "this %s does not compute in bfloat16 itself, which can take many times as long; pass -s precision=auto",
            "processor" if device.type == "cpu" else "device",
        )
    return name if name != "auto" else ("bfloat16" if has_bfloat16 else "float32")


def within_memory(
    backward: Callable[[Share, int], float], share: Share, micro: int
) -> float | None:
    """Return the loss of a step, or None when memory is full and the graphs of `micro` videos must be smaller.

    Raises OutOfMemoryError when even graphs of one video do not fit.
    """
    try:
        return backward(share, micro)
    except torch.OutOfMemoryError:
        if micro == 1:
            raise
    torch.cuda.empty_cache()  # after the `except`, whose traceback would keep the graph alive
    return None


def _encode(encode: Callable[[Any], Tensor], parts: Sequence[Any], learn: bool) -> Encoded:
    """Return the embeddings of all parts, and a function that carries their gradient back to the parameters.

    Several parts are first encoded without a graph. When the gradient of the embeddings is known, they are encoded
    once more, one graph at a time. So only one part's graph is in memory, and the gradient is that of the whole batch.
    """
    if len(parts) == 1:
        with torch.set_grad_enabled(learn):
            z = encode(parts[0])
        return z, z.backward
    with torch.no_grad():
        embeddings = [encode(part) for part in parts]

    def carry_back(gradient: Tensor) -> None:
        gradients = gradient.split([len(z) for z in embeddings])
        for part, part_gradient in zip(parts, gradients, strict=True):
            encode(part).backward(part_gradient)

    return torch.cat(embeddings), carry_back


def _split(tokens: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """Split the tensors (N, L) of texts into parts of at most `size` texts."""
    n_texts = len(next(iter(tokens.values())))
    return [{k: v[i : i + size] for k, v in tokens.items()} for i in range(0, n_texts, size)]
