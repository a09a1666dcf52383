"""The share of matches that is kept (Table 4)."""

from maxi.studies.replacements import true_matches
from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "How many of the matches should be kept?",
    "Table 4",
    {
        "true names": Row(matches=true_matches, published="82.39 / 52.68 / 73.39"),
        "100 %": Row({"match.keep": 1.0}, published="77.88 / 51.09 / 71.24"),
        "90 %": Row({"match.keep": 0.9}, published="78.17 / 52.24 / 71.43"),
        "50 %": Row({"match.keep": 0.5}, published="78.18 / 50.35 / 70.78"),
        "30 %": Row({"match.keep": 0.3}, published="76.71 / 47.73 / 70.57"),
    },
    claims=[
        Claim("true names", "90 %"),
        Claim("90 %", "100 %"),
        Claim("90 %", "30 %"),
    ],
)
