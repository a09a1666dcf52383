"""What a run's refinement is: read from its file, as lines for the terminal, and as a part of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from maxi.documents import Refinement, check_document
from maxi.errors import MaxiError
from maxi.files import parse_json
from maxi.method.classification import Tuning
from maxi.method.metrics import with_interval
from maxi.method.mixture import Linear
from maxi.reports import figures
from maxi.run import Run, contents, made_from
from maxi.text.names import same

LEAST = 0.05  # how much a part counts that is called used
N_SHARES = 30  # names whose shares the report shows


class Loaded(NamedTuple):
    """A refinement: logits for its own names, and a temperature and a limit for any."""

    linear: Linear
    facts: dict[str, Any]

    def tuning(self, run: Run, weights: str, names: Sequence[str]) -> Tuning:
        """Return what it changes for a model with this digest of its weights; its logits are for its own names alone.

        Raises MaxiError when it was made for other weights.
        """
        if self.facts["weights"] != weights:
            raise MaxiError(
                f"{run.refinement}: was made for other weights; run `maxi refine {run.folder}` again, or add --plain"
            )
        own = list(map(same, self.facts["names"])) == list(map(same, names))
        return Tuning(self.facts["tau"], self.facts["limit"], self.linear if own else None)


def load_refinement(run: Run) -> Loaded | None:
    """Return the refinement of a run, None where there is none. Raises MaxiError when it is not as `maxi` wrote it."""
    path = run.refinement
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            linear = Linear(file.get_tensor("slopes"), file.get_tensor("offsets"))
            facts = parse_json((file.metadata() or {})["refinement"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise MaxiError(
            f"{path}: cannot be read ({error}); run `maxi refine {run.folder}` again"
        ) from error
    facts = check_document(facts, Refinement, str(path))
    n_names = len(facts["names"])
    shapes = linear.slopes.shape[1:], linear.offsets.shape
    if shapes != ((n_names,), (n_names,)) or not all(np.isfinite(part).all() for part in linear):
        raise MaxiError(
            f"{path}: does not fit its {n_names} names; run `maxi refine {run.folder}` again"
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
    used = {part: share for part, share in facts["parts"].items() if share >= LEAST}
    yield "used: temperature" + "".join(f", {part} ({share:.0%})" for part, share in used.items())
    each = ", ".join(f"{fit} {right:.1f} %" for fit, right in facts["fits"].items())
    yield f"held-out answers that each fit alone gets right: {each}"
    if left_out := facts["parts"].keys() - used:
        yield f"left out, because held-out answers become less likely: {', '.join(sorted(left_out))}"
    if facts["wrong"]:
        yield f"about {100 * facts['wrong']:.0f} % of the answers seem to be wrong"
    for by, rate in facts.get("judges", {}).items():
        yield f"{by} is taken to err in {100 * rate:.0f} % of its answers, by those of a person"
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
    """Return what the report shows of a refinement, None where there is none for the model as it is."""
    current = made_from(run.refinement, {run.training.name: contents(run.training)})
    if not current or (loaded := load_refinement(run)) is None:
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
