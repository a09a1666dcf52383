"""The table of all baselines."""

from __future__ import annotations

from maxi.baselines.a5 import A5
from maxi.baselines.action_clip import ActionCLIP
from maxi.baselines.baseline import Baseline
from maxi.baselines.descriptions import Descriptions
from maxi.baselines.frozen import Frozen
from maxi.baselines.text4vis import Text4Vis
from maxi.baselines.vifi_clip import ViFiCLIP, ViFiImage, ViFiText
from maxi.baselines.x_clip import XCLIP

BASELINES: dict[str, type[Baseline]] = {
    "frozen": Frozen,
    "vifi_clip": ViFiCLIP,
    "vifi_image": ViFiImage,
    "vifi_text": ViFiText,
    "action_clip": ActionCLIP,
    "x_clip": XCLIP,
    "a5": A5,
    "text4vis": Text4Vis,
    "descriptions": Descriptions,
}
