"""How much of the fine-tuned weights the result takes (beyond the paper, which takes four fifths)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "How much of the fine-tuned weights should be taken?",
    "beyond the paper, which takes 0.8 (section 4.2)",
    {str(share): Row(share=share) for share in (0.25, 0.5, 0.75, 1.0)},
    claims=[
        Claim("0.5", "1.0"),
        Claim("0.5", "0.25"),
        Claim("0.5", "1.0", "known"),
    ],
)
