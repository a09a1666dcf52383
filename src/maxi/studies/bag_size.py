"""Texts drawn from a bag (Table 8)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "How many texts of a bag does a step need?",
    "Table 8",
    {
        "1": Row({"train.n_bag": 1}, published="77.26 / 49.85 / 70.08"),
        "4": Row({"train.n_bag": 4}, published="77.24 / 49.84 / 70.71"),
        "8": Row({"train.n_bag": 8}, published="77.70 / 50.61 / 71.35"),
        "16": Row({"train.n_bag": 16}, published="77.88 / 51.09 / 71.24"),
    },
    claims=[Claim("16", "1"), Claim("16", "4"), Claim("16", "8")],
)
