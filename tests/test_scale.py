"""The benchmark of 240,000 videos, on 300 and 3,000: the same functions, and the same bags twice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from maxi.records import Bag, Caption, Match, Video, read_jsonl
from maxi.run import Run

N_NAMES, N_SENTENCES = 20, 80
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("n", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_made_up_videos(n: int, scale: ModuleType, tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        scale.make(tmp_path / name, n, N_NAMES, N_SENTENCES)
        costs = scale.run_stages(tmp_path / name)
        rows = {cost.stage: cost.rows for cost in costs}
        assert rows == {"load": 1, "match": n, "expand": N_NAMES, "bag": n, "epoch": n * 9 // 10}
        runs.append(Run(tmp_path / name / "run"))
    one, two = runs

    videos = [v.id for v in read_jsonl(one.manifest, Video)]
    matches = read_jsonl(one.matches, Match)
    assert [m.video for m in matches] == videos
    assert len(set(videos)) == n
    assert len({m.name for m in matches}) > N_NAMES / 2  # not collapsed: bags differ in their names
    bags = read_jsonl(one.bags, Bag)
    assert [b.video for b in bags] == [m.video for m in matches if m.kept]
    assert all(len(row.captions) == 8 for row in read_jsonl(one.captions, Caption))
    assert sum(len(b.texts) for b in bags) / len(bags) > 16  # there is something to draw from
    for file in ("matches.jsonl", "phrases.jsonl", "bags.jsonl"):
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes(), file

    assert scale.read_bags(tmp_path / "one")[0].rows == len(bags)
    scale.write_report(tmp_path / "one")
    assert "data:image" not in one.report.read_text()  # made-up videos have no frames to show


def test_growth_is_the_exponent(scale: ModuleType) -> None:
    def costs(n: int) -> list[object]:
        load = scale.Cost("load", 1, 1, 1, 400)
        return [load, scale.Cost("match", n, n, n, 410), scale.Cost("bag", n, 1, n**2, 400 + n)]

    assert list(scale.growth(costs(100), costs(800))) == ["match 1.00", "bag 2.00", "memory 1.00"]
    assert scale.total_of(costs(100)).seconds == 102
