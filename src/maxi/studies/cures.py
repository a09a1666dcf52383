"""Label-free cures of wrong matches, on untidy collections (beyond the paper)."""

from maxi.miniature.regimes import REGIMES
from maxi.studies.study import STATED, Claim, Row, Study

_CURES = {
    "second round": Row({"match.rounds": 2}),
    "shares even": Row({"match.shares": "even"}),
    "shares estimated": Row({"match.shares": "estimated"}),
    "shares stated": Row({"match.shares": STATED}),
    "margin": Row({"match.confidence": "margin"}),
    "kept per name": Row({"match.per_name": True}),
}

STUDY = Study(
    "Which setting of the matching helps in every collection?",
    "beyond the paper",
    {
        "adapted": Row(),
        **_CURES,
        "bags of other videos": Row(control=True),
        "second round, bags of other videos": Row({"match.rounds": 2}, control=True),
        "shares stated, bags of other videos": Row({"match.shares": STATED}, control=True),
    },
    claims=[Claim(cure, "adapted") for cure in _CURES],
    worlds=tuple(REGIMES),
)
