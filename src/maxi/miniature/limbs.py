"""Where in the frames of a video of the miniature the acting limb is: the one that the object of its action follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from maxi.miniature import body
from maxi.miniature.actions import BY_NAME
from maxi.miniature.scenes import shots
from maxi.miniature.videos import Clip

LIMBS = {
    "hand": ("shoulder", "near elbow", "near hand"),
    "foot": ("hip", "near knee", "near foot"),
    "head": ("shoulder", "head"),
}
"""The joints of a limb, by the effector of an action."""

WIDTH = 0.1  # of a limb, as a share of the body's height


def limb_masks(clip: Clip, indices: Sequence[int], side: int) -> NDArray[np.float32]:
    """Return where the acting limb is in the frames at `indices`, (T, side, side), 1 on it and 0 elsewhere.

    The frames are those that a model reads: resized so that the short side has `side` pixels, and the centre cut out.
    """
    times = np.arange(max(indices) + 1) / clip.fps
    places = [at for _, at in shots(clip.scene, clip.size, times)]
    limb = LIMBS[BY_NAME[clip.scene.action].effector]
    masks = [_mask(places[index], limb, clip, side) for index in indices]
    return np.stack(masks)


def _mask(
    at: Mapping[str, body.Point], limb: Sequence[str], clip: Clip, side: int
) -> NDArray[np.float32]:
    width, height = clip.size
    scale = side / min(width, height)
    left, top = int((int(width * scale) - side) / 2), int((int(height * scale) - side) / 2)
    joints = [(at[name][0] * scale - left, at[name][1] * scale - top) for name in limb]
    thick = WIDTH * clip.scene.scale * side
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    draw.line(joints, fill=1, width=max(1, round(thick)))
    for x, y in joints:
        draw.ellipse([x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2], fill=1)
    return np.asarray(picture, dtype=np.float32)
