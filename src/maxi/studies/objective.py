"""Objectives (Table 7)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "Which objective learns most from the bags?",
    "Table 7",
    {
        "cross entropy": Row(
            {"train.objective": "cross_entropy"}, published="74.48 / 48.69 / 65.09"
        ),
        "NCE": Row({"train.objective": "nce"}, published="77.26 / 49.85 / 70.08"),
        "MIL-Max": Row({"train.objective": "mil_max"}, published="77.24 / 49.85 / 70.71"),
        "MIL-NCE, instance only": Row(
            {"train.objective": "mil_nce_instance"}, published="76.96 / 50.48 / 70.14"
        ),
        "MIL-NCE": Row(published="77.88 / 51.09 / 71.24"),
    },
    claims=[
        Claim("MIL-NCE", "cross entropy"),
        Claim("MIL-NCE", "NCE"),
        Claim("MIL-NCE", "MIL-Max"),
        Claim("MIL-NCE", "MIL-NCE, instance only"),
    ],
)
