"""Attention to neighbouring frames (Table 10)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "Does attention to neighbouring frames help?",
    "Table 10",
    {
        "none": Row(published="78.17 / 52.24 / 71.43"),
        "last 2 blocks": Row({"train.temporal_blocks": 2}, published="77.38 / 51.83 / 70.41"),
        "last 4 blocks": Row({"train.temporal_blocks": 4}, published="75.91 / 51.92 / 69.23 (6)"),
    },
    claims=[Claim("none", "last 2 blocks"), Claim("none", "last 4 blocks")],
)
