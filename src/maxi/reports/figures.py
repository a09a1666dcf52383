"""Figures as inline SVG, which takes its colours, and so its dark mode, from the page around it."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# matplotlib needs real colours. These stand for the page's variables until the SVG is written.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "frozen": "#040404",
    "adapted": "#050505",
    "control": "#060606",
    "bad": "#070707",
}
LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5b6570",
    "line": "#d5dae0",
    "frozen": "#8a94a0",
    "adapted": "#1a7f5a",
    "control": "#c26a12",
    "bad": "#b3362b",
}
"""The same colours for a figure that stands alone."""

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["line"],
    "axes.grid": True,
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": [
        "DejaVu Sans"
    ],  # for measuring only; the page chooses the font that is seen
    "font.size": 9,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",  # text stays text, so that it has the page's font
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # because a name may hold dollar signs
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["muted"],
}
SIZE = (3.9, 2.5)
MAX_POINTS = 300
MAX_NAME = 40

Series = tuple[str, Sequence[float], Sequence[float]]


class Bar(NamedTuple):
    """A percentage, its interval, and the colour of its bar, a key of `COLOURS`."""

    value: float
    interval: Sequence[float]
    colour: str


def lines(series: Mapping[str, Series], *, x: str, y: str, zero: bool = False) -> str:
    """Draw curves by colour, each (legend, xs, ys); `zero` makes the y axis begin at 0. Returns an SVG."""

    def paint(axes: Any) -> None:
        for colour, (legend, xs, ys) in series.items():
            axes.plot(*thin(xs, ys), color=COLOURS[colour], label=legend)
        if zero:
            axes.set_ylim(bottom=0)
        if len(series) > 1:
            axes.legend()
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.set(xlabel=x, ylabel=y)

    return _draw(paint, SIZE)


def thin(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return a curve with at most `MAX_POINTS` points, each the mean of neighbours."""
    if len(xs) <= MAX_POINTS:
        return list(xs), list(ys)
    return _means(xs), _means(ys)


def _means(values: Sequence[float]) -> list[float]:
    """Return the means of `MAX_POINTS` parts of the values."""
    parts = np.array_split(np.asarray(values, float), MAX_POINTS)
    return [float(part.mean()) for part in parts]


def histogram(values: Sequence[float], *, x: str, threshold: float | None = None) -> str:
    """Draw how often each value occurs; with a threshold, the bars below it are pale. Returns an SVG."""

    def paint(axes: Any) -> None:
        counts, edges = np.histogram(values, _bins(values))
        centres = (edges[:-1] + edges[1:]) / 2
        is_pale = [threshold is not None and centre < threshold for centre in centres]
        colours = [COLOURS["frozen" if pale else "adapted"] for pale in is_pale]
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
        if threshold is not None:
            axes.axvline(threshold, color=COLOURS["ink"], linestyle="--", linewidth=1)
        axes.set(xlabel=x, ylabel="videos")

    return _draw(paint, SIZE)


def _bins(values: Sequence[float]) -> Any:
    """Return the number of bins, 30, or for whole numbers the edges of at most 30 bins with numbers in the middle."""
    if not all(isinstance(value, int) for value in values):
        return 30
    low, high = min(values), max(values)
    step = max(1, math.ceil((high - low + 1) / 30))
    return np.arange(low, high + step + 1, step) - 0.5


def bars(counts: Mapping[str, int]) -> str:
    """Draw one horizontal bar per name, in their order from the top. Returns an SVG."""

    def paint(axes: Any) -> None:
        places = range(len(counts))
        container = axes.barh(places, list(counts.values()), color=COLOURS["adapted"])
        axes.bar_label(container, padding=3, color=COLOURS["muted"], fmt="{:,.0f}")
        axes.set_yticks(places, [_short(name) for name in counts], color=COLOURS["ink"])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.spines.bottom.set_visible(False)
        axes.set_xticks([])
        axes.margins(x=0.12)

    return _draw(paint, (SIZE[0], 0.3 + 0.21 * len(counts)))


def intervals(rows: Mapping[str, Bar], *, x: str, chance: float) -> str:
    """Draw one horizontal bar with its interval per name, in their order from the top, and a line at chance.

    Returns an SVG.
    """

    def paint(axes: Any) -> None:
        for place, row in enumerate(rows.values()):
            low, high = row.interval
            axes.barh(place, row.value, 0.62, color=COLOURS[row.colour], alpha=0.75)
            axes.plot([low, high], [place, place], color=COLOURS["ink"], linewidth=1.2)
            number = {"textcoords": "offset points", "va": "center"}
            axes.annotate(f"{row.value:.1f}", (high, place), (4, 0), **number)
        axes.axvline(chance, color=COLOURS["ink"], linestyle="--", linewidth=0.8)
        # At the top of the line: x in units of the data, y as a share of the height.
        above = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
        muted = {"ha": "center", "color": COLOURS["muted"]}
        axes.annotate(f"chance {chance:.1f}", (chance, 1), (0, 2), **above, **muted)
        _name_rows(axes, list(rows))
        axes.set_xlim(0, max(row.interval[1] for row in rows.values()) * 1.16)
        axes.set(xlabel=x)

    return _draw(paint, (4.4, 0.75 + 0.25 * len(rows)))


def gains(rows: Mapping[str, tuple[float, Sequence[float]]], *, x: str) -> str:
    """Draw one gain with its interval per name, in their order from the top, and a line at 0. Returns an SVG."""

    def paint(axes: Any) -> None:
        for place, (gain, (low, high)) in enumerate(rows.values()):
            colour = COLOURS["adapted" if low > 0 else "bad" if high < 0 else "frozen"]
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot(gain, place, marker="o", color=colour)
        axes.axvline(0, color=COLOURS["ink"], linestyle="--", linewidth=0.8)
        _name_rows(axes, list(rows))
        axes.set(xlabel=x)

    return _draw(paint, (4.6, 0.75 + 0.25 * len(rows)))


def standalone(svg: str) -> str:
    """Return the SVG of a figure as a file of its own, with the colours of a light page."""
    style = "; ".join(f"--{name}: {colour}" for name, colour in LIGHT.items())
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} style="{style}; font-family: sans-serif; background: #ffffff"'
    return svg.replace("<svg", head, 1)


def changes(rows: Mapping[str, tuple[float, float]], *, x: str) -> str:
    """Draw for each name a dot before and an arrow head after, in percent, in their order from the top.

    `rows` holds (before, after) by name. Returns an SVG.
    """

    def paint(axes: Any) -> None:
        for place, (before, after) in enumerate(rows.values()):
            colour = COLOURS["adapted" if after > before else "bad"]
            axes.plot([before, after], [place, place], color=colour, linewidth=2)
            axes.plot(before, place, "o", color=COLOURS["frozen"], markersize=5)
            if after != before:
                axes.plot(after, place, ">" if after > before else "<", color=colour, markersize=6)
            change = f"{after - before:+.0f}".replace("-", "−") if after != before else "0"
            text_colour = colour if after != before else COLOURS["muted"]
            axes.text(112, place, change, color=text_colour, ha="right", va="center")
        _name_rows(axes, list(rows))
        axes.set_xlim(-3, 113)
        axes.set_xticks(range(0, 101, 25))
        axes.set(xlabel=x)

    return _draw(paint, (4.4, 0.6 + 0.22 * len(rows)))


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Name the rows of a horizontal figure from the top, and leave out the lines along the rows."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names], color=COLOURS["ink"])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines.left.set_visible(False)


def heatmap(table: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw counts (R, C): the shade of a cell is its share of the row, the number in it the count. Returns an SVG."""
    share = table / np.maximum(table.sum(1, keepdims=True), 1)

    def paint(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for i, j in np.argwhere(table > 0):
            colour = COLOURS["adapted" if rows[i] == columns[j] else "control"]
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, color=colour, alpha=0.2 + 0.6 * share[i, j])
            axes.add_patch(cell)
            axes.text(j, i, f"{table[i, j]}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(columns)), map(_short, columns), rotation=90)
        axes.set_yticks(range(len(rows)), map(_short, rows))
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(xlabel="answer", ylabel="label")

    return _draw(paint, (2.8 + 0.24 * len(columns), 2.6 + 0.22 * len(rows)))


def _short(name: str) -> str:
    """Return a name cut to `MAX_NAME` characters."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _draw(paint: Callable[[Any], None], size: tuple[float, float]) -> str:
    """Return the SVG of a figure of that size in inches, on whose axes `paint` draws."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "maxi"}), warnings.catch_warnings():
        # matplotlib warns of a character that its font lacks; the browser has it.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Return an SVG file as part of a page: without header and style sheet, and without ids that may occur twice."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
