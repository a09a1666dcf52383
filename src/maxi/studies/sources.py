"""Sources of language (Table 1)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "What do phrases and captions add to the names?",
    "Table 1",
    {
        "names": Row({"bag.phrases": False, "bag.captions": False}, published="76.6 / 50.5 / 70.4"),
        "names, phrases": Row({"bag.captions": False}, published="77.8 / 51.6 / 71.6"),
        "names, phrases, captions": Row(published="78.2 / 52.2 / 71.4"),
    },
    claims=[
        Claim("names", "frozen"),
        Claim("names, phrases", "names"),
        Claim("names, phrases, captions", "names, phrases"),
    ],
)
