"""Videos contrasted with each other, at as many videos seen (beyond the paper; its code contrasts 16)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "Is a contrast with the whole batch better than with 16 videos?",
    "beyond the paper: the released code contrasts 16 of 256",
    {
        "16 videos": Row({"train.contrast": 16}),
        "the whole batch": Row(),
    },
    claims=[Claim("the whole batch", "16 videos")],
)
