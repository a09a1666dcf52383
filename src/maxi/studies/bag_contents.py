"""Contents of bags (Table 6)."""

from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "Which texts belong in a bag?",
    "Table 6",
    {
        "names": Row(
            {"bag.phrases": False, "bag.captions": False}, published="76.45 / 47.43 / 69.98"
        ),
        "nouns of captions": Row(
            {"bag.phrases": False, "bag.caption_parts": "nouns"},
            published="76.23 / 50.15 / 71.13",
        ),
        "verbs of captions": Row(
            {"bag.phrases": False, "bag.caption_parts": "verbs"},
            published="76.94 / 50.92 / 71.25",
        ),
        "phrases": Row({"bag.captions": False}, published="76.98 / 50.46 / 71.24"),
        "phrases, verbs of captions": Row(
            {"bag.caption_parts": "verbs"}, published="77.88 / 51.09 / 71.24"
        ),
    },
    claims=[
        Claim("phrases, verbs of captions", "names"),
        Claim("verbs of captions", "nouns of captions"),
        Claim("phrases, verbs of captions", "phrases"),
    ],
)
