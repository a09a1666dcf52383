"""`verify.html`: a page on which a person judges sampled videos blind, and reads off how accurate both models are.

Without labels nothing else can tell whether an adapted model is better. A clip on which the models agree says nothing
about their difference. So clips on which they disagree are drawn more often, and get a lower weight in the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxi.documents import Predicted, read_rows
from maxi.errors import MaxiError
from maxi.files import file_digest, write_text
from maxi.method.metrics import Z95, paired_difference
from maxi.randomness import shuffled
from maxi.records import Video, iterate_jsonl
from maxi.reports.html import previews, render_page
from maxi.reports.tables import best, both
from maxi.run import Run
from maxi.video.workers import Decoder

MODELS = ("frozen", "adapted")
STRATA = ("agree", "disagree")
N_ENOUGH = 5  # clips of each kind that must be judged before a figure is shown
N_LEAST = 2 * N_ENOUGH
N_FRAMES, HEIGHT = 8, 200


def write_verify(run: Run, decoder: Decoder, *, n: int = 40, seed: int = 0) -> Path:
    """Write `verify.html` with `n` clips of the run's `predictions.jsonl`, chosen by `seed`, and return its path.

    Raises MaxiError when there are no predictions of both models, or when `n` is too small for an estimate.
    """
    if n < N_LEAST:
        raise MaxiError(
            f"-n {n}: too few clips to estimate anything from; judge at least {N_LEAST}"
        )
    path = run.predictions
    rows = {row["video"]: row for row in both(read_rows(path, Predicted))}
    if not rows:
        raise MaxiError(f"{path}: holds no predictions of both models; run `maxi adapt` first")
    strata = stratify(rows)
    chosen = sample(strata, n, seed)
    chosen_ids = set(chosen)
    videos = [v for v in iterate_jsonl(run.manifest, Video) if v.id in chosen_ids]
    frames = previews(decoder, videos, N_FRAMES, height=HEIGHT)
    cards = [
        {
            "video": video,
            "path": str(rows[video].get("path", video)),
            "stratum": "agree" if video in strata["agree"] else "disagree",
            **{model: best(rows[video], model) for model in MODELS},
            "names": _blind(rows[video], seed),
        }
        for video in chosen
    ]
    data = {
        "key": f"maxi-verify-{file_digest(path)}",
        "run": run.folder.resolve().name,
        "seed": seed,
        "strata": {stratum: len(strata[stratum]) for stratum in STRATA},
        "cards": cards,
    }
    page = render_page(
        "verify.html.j2", run=run.folder.resolve().name, data=data, cards=cards, frames=frames
    )
    write_text(run.verify, [page])
    return run.verify


def stratify(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, None]]:
    """Return the video ids, as ordered sets, by whether both models give the same best name."""
    strata: dict[str, dict[str, None]] = {stratum: {} for stratum in STRATA}
    for video, row in rows.items():
        same = best(row, "frozen") == best(row, "adapted")
        strata["agree" if same else "disagree"][video] = None
    return strata


def sample(strata: Mapping[str, Mapping[str, None]], n: int, seed: int) -> list[str]:
    """Return `n` video ids in mixed order, half of them disagreements where there are enough of both kinds."""
    order = {stratum: shuffled(list(strata[stratum]), "verify", seed) for stratum in STRATA}
    n_agree = min(len(order["agree"]), max(n // 2, n - len(order["disagree"])))
    chosen = order["agree"][:n_agree] + order["disagree"][: n - n_agree]
    return shuffled(chosen, "verify order", seed)


def _blind(row: Mapping[str, Any], seed: int) -> list[str]:
    """Return the best names of both models in an order that does not show which model gave which."""
    names = list(dict.fromkeys(best(row, model) for model in MODELS))
    return shuffled(names, f"verify names {row['video']}", seed)


def estimate(judgements: Sequence[Mapping[str, Any]], strata: Mapping[str, int]) -> dict[str, Any]:
    """Estimate the accuracy of both models and their difference over all clips, in percent with 95 % intervals.

    A judgement is {stratum, frozen, adapted}, with True for a right answer, False for a wrong one, and None for both
    models where the person could not tell. `strata` holds the number of clips of each kind. Accuracy is the stratified
    estimator sum_h W_h p_h; its interval combines the Agresti-Coull limits of each p_h (MOVER, Zou and Donner 2008).
    Only disagreements count for the difference; its interval is that of Bonett and Price for paired shares (2012).
    `ready` is False while too few clips are judged. The page computes the same in `templates/estimate.js`.
    """
    total = sum(strata.values())
    judged = {h: [j for j in judgements if j["stratum"] == h] for h in STRATA}
    decided = {h: [j for j in judged[h] if j["frozen"] is not None] for h in STRATA}
    counts = {"judged": sum(map(len, judged.values())), "told": sum(map(len, decided.values()))}
    present = [h for h in STRATA if strata[h] > 0]
    if any(len(judged[h]) < min(N_ENOUGH, strata[h]) or not decided[h] for h in present):
        return {"ready": False, **counts}
    weights = {h: strata[h] / total for h in present}
    result: dict[str, Any] = {"ready": True, **counts}
    for model in MODELS:
        right = {h: (sum(bool(j[model]) for j in decided[h]), len(decided[h])) for h in present}
        result[model] = _accuracy(right, weights)
    different = decided["disagree"] if "disagree" in present else []
    gained = sum(bool(j["adapted"]) and not j["frozen"] for j in different)
    lost = sum(bool(j["frozen"]) and not j["adapted"] for j in different)
    result["difference"] = _difference(gained, lost, len(different), weights.get("disagree", 0.0))
    return result


def _accuracy(right: Mapping[str, tuple[int, int]], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the stratified share and its interval, in percent; `right` holds (right, judged) by stratum."""
    value = below = above = 0.0
    for stratum, (k, n) in right.items():
        weight, share = weights[stratum], k / n
        low, high = _agresti_coull(k, n)
        value += weight * share
        below += (weight * (share - low)) ** 2
        above += (weight * (high - share)) ** 2
    interval = [max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above))]
    return {"value": 100 * value, "interval": [100 * end for end in interval]}


def _agresti_coull(k: int, n: int) -> tuple[float, float]:
    """Return the Agresti-Coull limits of the share of `k` among `n`."""
    wide = n + Z95**2
    centre = (k + Z95**2 / 2) / wide
    half = Z95 * math.sqrt(centre * (1 - centre) / wide)
    return max(0.0, centre - half), min(1.0, centre + half)


def _difference(gained: int, lost: int, n: int, weight: float) -> dict[str, Any]:
    """Return the paired difference on `n` disagreements, and its interval, times their weight among all clips."""
    if n == 0:
        return {"value": 0.0, "interval": [0.0, 0.0]}
    value, low, high = paired_difference(gained, lost, n)
    return {"value": weight * value, "interval": [weight * low, weight * high]}
