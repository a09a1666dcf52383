"""Controls: what is left of the gain when matches are wrong (beyond the paper)."""

from maxi.studies.replacements import permuted_names, true_matches
from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "Does the gain come from the matches?",
    "beyond the paper",
    {
        "adapted": Row(),
        "bags of other videos": Row(control=True),
        "names permuted": Row(matches=permuted_names),
        "true names": Row(matches=true_matches),
    },
    claims=[
        Claim("adapted", "frozen"),
        Claim("adapted", "bags of other videos"),
        Claim("true names", "adapted"),
    ],
)
