"""Frames of a training clip (beyond the paper)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "How many frames does a training clip need?",
    "beyond the paper",
    {
        "1": Row({"train.n_frames": 1}),
        "2": Row({"train.n_frames": 2}),
        "4": Row({"train.n_frames": 4}),
        "8": Row({"train.n_frames": 8}),
    },
    claims=[Claim("2", "1"), Claim("8", "2")],
)
