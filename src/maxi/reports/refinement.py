"""What a run's refinement is: read from its file, as lines for the terminal, and as a part of the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from maxi.documents import Refinement, check_document
from maxi.errors import MaxiError
from maxi.method.metrics import with_interval
from maxi.method.mixture import Linear
from maxi.reports import figures
from maxi.run import Run

N_SHARES = 30  # names whose shares the report shows


class Loaded(NamedTuple):
    """A refinement: logits for its own names, and a temperature and a limit for any."""

    linear: Linear
    facts: dict[str, Any]

    def check(self, run: Run, weights: str) -> None:
        """Raise MaxiError when the refinement was made for other weights than those of this digest."""
        if self.facts["weights"] != weights:
            raise MaxiError(
                f"{run.refinement}: was made for other weights; run `maxi refine {run.folder}` again, or add --plain"
            )

    def fits(self, names: Sequence[str], prompt: str) -> bool:
        """Return whether these are the names and the prompt that its logits are for."""
        return bool(self.facts["names"] == list(names) and self.facts["prompt"] == prompt)


def load_refinement(run: Run) -> Loaded | None:
    """Return the refinement of a run, None where there is none. Raises MaxiError when it cannot be read."""
    if not run.refinement.is_file():
        return None
    try:
        with safe_open(run.refinement, "np") as file:
            linear = Linear(file.get_tensor("slopes"), file.get_tensor("offsets"))
            facts = json.loads((file.metadata() or {})["refinement"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise MaxiError(
            f"{run.refinement}: cannot be read ({error}); run `maxi refine` again, or add --plain"
        ) from error
    facts = check_document(facts, Refinement, str(run.refinement))
    if (
        linear.slopes.ndim != 2
        or linear.offsets.shape != (len(facts["names"]),)
        or not all(np.isfinite(part).all() for part in linear)
    ):
        raise MaxiError(
            f"{run.refinement}: does not fit its names; run `maxi refine` again, or add --plain"
        )
    return Loaded(linear, facts)


def lines_of(facts: dict[str, Any]) -> Iterator[str]:
    """Yield what a refinement is and what it is good for, some lines for the terminal."""
    yield f"{facts['n_judged']} videos are judged, {facts['n']} of them with a name of the run"
    if estimate := facts["estimate"]:
        frozen, adapted = (_percent(estimate[model]) for model in ("frozen", "adapted"))
        value, *interval = estimate["difference"]
        yield (
            f"in the collection, from {estimate['n']} drawn videos: frozen {frozen}, adapted {adapted}, "
            f"{with_interval(value, interval)} points; {estimate['more']}"
        )
    gain = with_interval(facts["gain"], facts["interval"])
    yield (
        f"answered videos recognised, by fits without their answers: {facts['before']:.1f} % before, "
        f"{facts['after']:.1f} % after, {gain} points"
    )
    before, after = facts["calibration"]
    yield f"calibration error: {before:.1f} points before, {after:.1f} after"
    yield "used: temperature" + "".join(f", {part}" for part in facts["parts"])
    if facts["left_out"]:
        yield f"left out, because held-out answers became less likely: {', '.join(facts['left_out'])}"
    if facts["wrong"]:
        yield f"about {100 * facts['wrong']:.0f} % of the answers seem to be wrong"
    if facts["limit"] is None:
        yield "too few answers for a limit of none of these"
    else:
        yield (
            f"none of these: best cosine below {facts['limit']:.3f}, where 10 % of the videos of listed names lie; "
            f"{facts['n_none_found']} of {facts['n_none']} videos judged to be none lie there"
        )


def _percent(estimated: tuple[float, float, float]) -> str:
    value, low, high = estimated
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def section_of(run: Run) -> dict[str, Any] | None:
    """Return what the report shows of a refinement, None where there is none."""
    if (loaded := load_refinement(run)) is None:
        return None
    facts = loaded.facts
    before, after = ([row[:2] for row in rows] for rows in facts["reliability"])
    series: dict[str, figures.Series] = {"line": ("as it should be", (0, 100), (0, 100))}
    for colour, legend, rows in (("frozen", "before", before), ("adapted", "after", after)):
        series[colour] = legend, [sure for sure, _ in rows], [right for _, right in rows]
    shares = sorted(zip(facts["names"], facts["shares"], strict=True), key=lambda row: -row[1][0])
    return {
        "lines": list(lines_of(facts)),
        "svg": figures.lines(series, x="confidence, %", y="right, %", zero=True),
        "shares": [
            {"name": name, "share": 100 * share, "low": 100 * low, "high": 100 * high}
            for name, (share, low, high) in shares[:N_SHARES]
        ],
        "n_names": len(shares),
    }
