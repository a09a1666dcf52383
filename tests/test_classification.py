"""Predictions as lines."""

from __future__ import annotations

import csv
import io

from maxi.method.classification import Prediction, lines_of


def test_no_cell_of_a_table_is_a_formula() -> None:
    names = ("=1+1", "@SUM(A1)", "waving")
    row = Prediction("-clip.mp4", 0.0, 1.5, names, (0.5, 0.3, 0.2), (0.4, 0.3, -0.2))
    rows = list(csv.DictReader(io.StringIO("\n".join(lines_of([row], "csv")))))
    assert [r["name"] for r in rows] == ["'=1+1", "'@SUM(A1)", "waving"]
    assert rows[0]["path"] == "'-clip.mp4"
    assert rows[2]["cosine"] == "-0.2"
