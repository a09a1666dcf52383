"""What the paper publishes for zero-shot recognition (Tables 1 and 2), to stand beside figures of one's own.

In percent: top-1, for Charades the mean average precision; 16 frames; ± is the deviation over three splits.
"""

from __future__ import annotations

_METHODS = (
    "CLIP",
    "ViFi-CLIP, with labels",
    "MAXI, names",
    "MAXI, names and phrases",
    "MAXI, names, phrases and captions",
)
_FIGURES = {
    "ucf101": ("69.9 ± 1.3", "74.9 ± 0.6", "76.6 ± 0.9", "77.8 ± 0.3", "78.2 ± 0.8"),
    "hmdb51": ("38.0 ± 1.7", "50.9 ± 0.7", "50.5 ± 0.9", "51.6 ± 0.9", "52.2 ± 0.6"),
    "k600": ("63.5 ± 0.4", "67.7 ± 1.1", "70.4 ± 0.8", "71.6 ± 1.0", "71.4 ± 0.9"),
    "charades": ("19.80", "25.77", "23.47", "23.74", "23.79"),
    "mit": ("20.11", "21.68", "21.94", "22.11", "22.91"),
    "mini_ssv2": ("3.96", "5.98", "5.19", "5.60", "6.37"),
    "uav_human": ("1.79", "4.67", "2.42", "2.77", "2.72"),
}
PUBLISHED: dict[str, list[tuple[str, str]]] = {
    dataset: list(zip(_METHODS, figures, strict=True)) for dataset, figures in _FIGURES.items()
}
"""For each dataset a method and its figure."""
