"""The table of all presets."""

from __future__ import annotations

from maxi.datasets import (
    charades,
    hmdb51,
    kinetics400,
    kinetics600,
    mini_ssv2,
    moments_in_time,
    ssv2,
    uav_human,
    ucf101,
)
from maxi.datasets.preset import Preset

_FILES = (
    *(ucf101, hmdb51, kinetics400, kinetics600, ssv2),
    *(mini_ssv2, charades, moments_in_time, uav_human),
)
PRESETS: dict[str, Preset] = {file.PRESET.name: file.PRESET for file in _FILES}
