"""The methods that the paper compares itself with, on the same videos and with the same budget (Table 1)."""

from maxi.studies.replacements import true_matches
from maxi.studies.study import Claim, Row, Study

STUDY = Study(
    "How do others fare on the same videos?",
    "Table 1; all but the first rows and MAXI learn from true names",
    {
        "frozen, templates": Row(baseline="frozen", published="69.9 / 38.0 / 63.5"),
        "classes by description, true names": Row(
            baseline="descriptions", published="51.8 / 35.3 / 42.1"
        ),
        "ActionCLIP, true names": Row(baseline="action_clip", published="58.3 / 40.8 / 66.7"),
        "X-CLIP, true names": Row(baseline="x_clip", published="72.0 / 44.6 / 65.2"),
        "A5, true names": Row(baseline="a5", published="69.3 / 44.3 / 55.8"),
        "Text4Vis, true names": Row(baseline="text4vis", published="- / - / 68.9"),
        "ViFi-CLIP, true names": Row(baseline="vifi_clip", published="76.8 / 51.3 / 71.2"),
        "ViFi-CLIP, image only, true names": Row(baseline="vifi_image"),
        "ViFi-CLIP, text only, true names": Row(baseline="vifi_text"),
        "MAXI": Row(published="78.2 / 52.2 / 71.4"),
        "MAXI, true names": Row(matches=true_matches),
    },
    claims=[
        Claim("MAXI", "frozen, templates"),
        Claim("MAXI", "ViFi-CLIP, true names"),
        Claim("ViFi-CLIP, true names", "X-CLIP, true names"),
        Claim("ViFi-CLIP, true names", "ActionCLIP, true names"),
        Claim("ViFi-CLIP, true names", "A5, true names"),
    ],
)
