"""What every baseline is: a CLIP that embeds videos and names, and that says which of its parameters learn.

As it stands, a baseline is CLIP itself: a video is the mean of its frames, a name is its prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.models.clip import Clip
from maxi.models.video_clip import Trainable, VideoCLIP
from maxi.text.clean import with_name


class Baseline(nn.Module):
    """A CLIP with its own way to embed videos or names; B videos, K names, T frames, D the width of the joint space.

    `phrases` are those of each name, for baselines that read descriptions.
    """

    trainable: Trainable | None = "all"
    """The part of CLIP that learns; None for nothing."""

    def __init__(
        self, clip: VideoCLIP, prompts: Sequence[str], phrases: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__()
        self.clip, self.prompts, self.phrases = clip, list(prompts), phrases

    @property
    def width(self) -> int:
        """D, the width of the joint space."""
        return int(self.towers.model.config.projection_dim)

    @property
    def towers(self) -> Clip:
        """The two towers of the CLIP."""
        backbone = self.clip.backbone
        assert isinstance(backbone, Clip)
        return backbone

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Embed videos: (B, T, C, H, W) -> what `cosines` reads, by default (B, D) with unit norm."""
        return F.normalize(self.pooled(self.frame_embeddings(pixels)).float(), dim=-1)

    def frame_embeddings(self, pixels: Tensor) -> Tensor:
        """Embed the frames of videos, without normalising them: (B, T, C, H, W) -> (B, T, D)."""
        raw = self.towers.encode_image(pixels.flatten(0, 1))
        frames: Tensor = raw.unflatten(0, pixels.shape[:2])  # type: ignore[no-untyped-call]
        return frames

    def pooled(self, frames: Tensor) -> Tensor:
        """Turn the embeddings of frames into those of videos: (B, T, D) -> (B, D)."""
        return frames.mean(1)

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Embed names: (K, D), the mean over the prompts, with unit norm."""
        return self.encode_texts([[with_name(p, n) for p in self.prompts] for n in names])

    def encode_texts(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Embed names that several texts stand for: (K, D), the mean of the texts, with unit norm."""
        flat = [text for of_name in texts for text in of_name]
        z_t = self.clip.encode_text(self.towers.tokenize(flat))
        means = torch.stack([part.mean(0) for part in z_t.split([len(t) for t in texts])])
        return F.normalize(means, dim=-1)

    def cosines(self, videos: Tensor, names: Tensor) -> Tensor:
        """Compare videos with names: (B, D), (K, D) -> (B, K)."""
        return videos @ names.T

    def learning(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by name: those of CLIP's `trainable` part, and all that were added."""
        of_clip = set(self.clip.freeze(self.trainable)) if self.trainable else set()
        learning = {}
        for name, parameter in self.named_parameters():
            is_added = not name.startswith("clip.")
            parameter.requires_grad_(is_added or name.removeprefix("clip.") in of_clip)
            if parameter.requires_grad:
                learning[name] = parameter
        return learning


class Temporal(Baseline):
    """A baseline whose transformer over the frames tells each frame of the others and of their order."""

    DEPTH = 6  # blocks, as in ActionCLIP and Text4Vis

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.temporal = Encoder(self.width, self.DEPTH)

    def pooled(self, frames: Tensor) -> Tensor:
        """Add what the transformer says to the frames, and average them: (B, T, D) -> (B, D)."""
        mean: Tensor = (frames + self.temporal(frames)).mean(1)
        return mean


class Encoder(nn.Module):
    """Transformer blocks over the frames of a video, with a learnt embedding of their place: (B, T, D) -> (B, T, D).

    The last layer of each block begins at 0, so that an untrained encoder changes nothing.
    """

    MOST_FRAMES = 64

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.places = nn.Parameter(0.01 * torch.randn(self.MOST_FRAMES, width))
        block = nn.TransformerEncoderLayer(
            width, max(1, width // 64), 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        for layer in self.blocks.layers:
            for last in (layer.self_attn.out_proj, layer.linear2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Return what the blocks add to the frames, (B, T, D)."""
        placed = frames + self.places[: frames.shape[1]].to(frames.dtype)
        changed: Tensor = self.blocks(placed) - placed
        return changed
