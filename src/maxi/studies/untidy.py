"""Untidy collections: rare and absent names, videos of nothing that is listed, look-alikes (beyond the paper)."""

import numpy as np

from maxi.method.transduction import centred, even_gaussian, even_shares
from maxi.miniature.regimes import REGIMES
from maxi.studies.replacements import true_matches
from maxi.studies.study import Claim, Row, Scores, Seen, Study


def _averaged_phrases(seen: Seen) -> Scores:
    return np.asarray(seen.z_v @ seen.z_phrases.T)


def _centred(seen: Seen) -> Scores:
    return centred(seen.z_v, seen.z_l, seen.mean)


def _even_shares(seen: Seen) -> Scores:
    return even_shares(seen.z_v, seen.z_l, seen.tau)


def _even_gaussian(seen: Seen) -> Scores:
    return even_gaussian(seen.z_v, seen.z_l, seen.tau)


STUDY = Study(
    "What happens on collections as users have them?",
    "beyond the paper",
    {
        "averaged phrases, untrained": Row(answers=_averaged_phrases),
        "centred, untrained": Row(answers=_centred),
        "even shares assumed, transductive": Row(answers=_even_shares),
        "even shares and Gaussians assumed, transductive": Row(answers=_even_gaussian),
        "adapted": Row(),
        "bags of other videos": Row(control=True),
        "names alone": Row({"bag.phrases": False, "bag.captions": False}),
        "true names": Row(matches=true_matches),
    },
    claims=[
        Claim("adapted", "frozen"),
        Claim("adapted", "frozen", "known"),
        Claim("adapted", "averaged phrases, untrained"),
        Claim("adapted", "centred, untrained"),
        Claim("adapted", "bags of other videos"),
    ],
    worlds=tuple(REGIMES),
)
