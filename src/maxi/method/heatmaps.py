"""Heatmaps: how near each patch of a frame is to a text (appendix C.1, Figures 3 to 5)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from maxi.errors import MaxiError
from maxi.features.embedding import to_pixels
from maxi.models.clip import Clip
from maxi.models.text_embeddings import embed_texts
from maxi.models.video_clip import VideoCLIP
from maxi.video.transforms import eval_transform


@torch.inference_mode()
def heatmap(
    model: VideoCLIP, frames: NDArray[np.uint8], text: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the crops of frames (T, H, W, 3) that the model reads, (T, S, S, 3), and the cosines of their patches.

    The cosines (T, G, G) are those of G x G patches with the text. Raises MaxiError for a model without a class token,
    whose patches are not in the space of texts.
    """
    backbone = model.backbone
    if not isinstance(backbone, Clip):
        raise MaxiError(
            f"a model of the kind {backbone.kind!r} has no patches in the space of texts; pass a CLIP"
        )
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)
    crops = eval_transform(images, backbone.image_size, resize_to=backbone.resize_to)
    patches = backbone.patch_embeddings(to_pixels(model, crops), n_frames=len(crops))  # (T, P, D)
    z_t = embed_texts(model, [text])[0].to(patches.device)  # (D,)
    cosines = F.normalize(patches.float(), dim=-1) @ z_t  # (T, P)
    side = round(cosines.shape[1] ** 0.5)
    maps = cosines.unflatten(1, (side, side)).cpu().numpy()
    return crops.permute(0, 2, 3, 1).contiguous().numpy(), maps
