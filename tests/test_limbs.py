"""Where the acting limb of the miniature is: the object that goes with it is there too."""

from __future__ import annotations

import numpy as np

from maxi.miniature.limbs import limb_masks
from maxi.miniature.scenes import NO_SHIFT, frames, shots
from maxi.miniature.videos import draw_clip


def test_a_limb_is_where_its_joints_are() -> None:
    clip = draw_clip(3, "unseen", 0, "kicking", style="plain")
    clip = clip._replace(size=(96, 96))
    (mask,) = limb_masks(clip, [0], 96)
    (_, at), *_ = shots(clip.scene, clip.size, np.zeros(1))
    for name in ("hip", "near knee", "near foot"):
        x, y = at[name]
        assert mask[int(y), int(x)] == 1
    assert mask[5, 5] == 0
    assert 0.01 < mask.mean() < 0.2


def test_a_wide_frame_is_cut_as_a_model_cuts_it() -> None:
    clip = draw_clip(3, "unseen", 1, "waving", style="plain")._replace(size=(192, 96))
    (wide,), (square,) = (
        limb_masks(c, [0], 96) for c in (clip, clip._replace(size=(96, 96)))
    )  # the person stands in the middle of both
    assert np.abs(wide - square).mean() < 0.01


def test_shots_are_the_frames() -> None:
    clip = draw_clip(3, "unseen", 2, "juggling")
    assert clip.scene.shift != NO_SHIFT
    times = np.arange(3) / clip.fps
    pairs = zip(
        frames(clip.scene, clip.size, times), shots(clip.scene, clip.size, times), strict=True
    )
    assert all(np.array_equal(frame, shot) for frame, (shot, _) in pairs)
