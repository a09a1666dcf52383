"""`maxi compare`: what differs is said first, and unlike things are not subtracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.reports.comparison import compare_files

CONDITIONS = {
    "prompt": "a photo of {}.",
    "videos": "v",
    "names": "n",
    "n_frames": 16,
    "weights": "w",
    "versions": {"torch": "2.13.0"},
    "date": "2026-01-01",
}


def row(top1: float = 50.0, model: str = "model", **conditions: Any) -> dict[str, Any]:
    found = {"dataset": "ucf101", "split": "1", "names": "as listed", "part": "all"}
    found |= {"model": model, "n": 100}
    found |= {"missing": 0, "top1": top1, "top1_interval": [top1 - 10, top1 + 10], "top5": 90.0}
    return {**found, "conditions": {**CONDITIONS, **conditions}}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_models_on_the_same_things(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", row(50.0, date="2026-01-02"))
    b = write(tmp_path / "b.json", row(56.0, "adapted", weights="x", versions={"torch": "2.14.1"}))
    done = CliRunner().invoke(main, ["compare", str(a), str(b)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ucf101 · 1 · as listed · all · model and adapted",
        "  versions.torch: 2.13.0 | 2.14.1",
        "  weights: w | x",
        "  top-1: 50.00 | 56.00   +6.0 [-8.1, +20.1]",
        "  top-5: 90.00 | 90.00   +0.00",
    ]


@pytest.mark.parametrize(
    "other", [{"prompt": "{}"}, {"videos": "u"}, {"names": "m"}, {"n_frames": 8}]
)
def test_unlike_things_are_not_subtracted(tmp_path: Path, other: dict[str, Any]) -> None:
    a, b = write(tmp_path / "a.json", row()), write(tmp_path / "b.json", row(51.0, **other))
    (name,) = other
    with pytest.raises(MaxiError, match=f"different things .*: {name}.*--anyway"):
        compare_files(a, b)
    lines = compare_files(a, b, anyway=True)
    assert lines[1].startswith(f"  {name}: ")  # before the figures


def test_rows_that_belong_together(tmp_path: Path) -> None:
    both = [row(50.0, "frozen"), row(60.0, "adapted"), row(61.0, "adapted", date="later")]
    a, b = write(tmp_path / "a.json", *both), write(tmp_path / "b.json", *both[:2])
    lines = compare_files(a, b)
    assert [line for line in lines if "top-1" in line] == [
        "  top-1: 50.00 | 50.00   +0.0 [-14.1, +14.1]",
        "  top-1: 61.00 | 60.00   -1.0 [-15.1, +13.1]",
    ]
    c = write(tmp_path / "c.json", {**row(), "dataset": "hmdb51"})
    with pytest.raises(MaxiError, match="have no dataset, split, form of the names and model"):
        compare_files(a, c)
    with pytest.raises(MaxiError, match="does not exist; name a results"):
        compare_files(a, tmp_path / "none.json")
    (tmp_path / "results").mkdir()
    write(tmp_path / "results" / "results.json", *both)
    assert compare_files(tmp_path / "results", a)
    with pytest.raises(MaxiError, match="not as maxi writes it"):
        compare_files(a, write(tmp_path / "d.json", {"dataset": "x"}))
