"""Few labelled videos of each name, from CLIP and from the adapted model (Table 3)."""

from maxi.studies.study import Claim, Row, Study

SHOTS = {
    2: ("57.2 / 80.7 / 6.2 (ViFi-CLIP)", "58.0 / 86.8 / 7.1"),
    4: ("62.7 / 85.1 / 7.4 (ViFi-CLIP)", "60.1 / 89.3 / 8.4"),
    8: ("64.5 / 90.0 / 8.5 (ViFi-CLIP)", "65.0 / 92.4 / 9.3"),
    16: ("66.8 / 92.7 / 12.4 (ViFi-CLIP)", "66.5 / 93.5 / 12.4"),
}

STUDY = Study(
    "Is the adapted model a better start for a few labels?",
    "Table 3",
    {
        "MAXI": Row(published="49.2 / 77.8 / 4.8"),
        **{f"{k} shots": Row(shots=k, published=clip) for k, (clip, _) in SHOTS.items()},
        **{
            f"MAXI, {k} shots": Row(shots=k, start="MAXI", published=maxi)
            for k, (_, maxi) in SHOTS.items()
        },
    },
    claims=[Claim(f"MAXI, {k} shots", f"{k} shots") for k in SHOTS],
    published="top-1 on HMDB51 / UCF101 / SSv2",
)
