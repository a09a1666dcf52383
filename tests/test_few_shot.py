"""Few-shot and base-to-novel: the same videos for all that is compared, drawn or from the field's lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.datasets.files import ListFolder
from maxi.datasets.lists import Item, read_items
from maxi.datasets.preset import Halves, Listed, Preset, Split, drawn, shot_list
from maxi.datasets.presets import PRESETS
from maxi.errors import MaxiError
from maxi.records import Bag, read_jsonl
from media import write_video
from test_evaluate_datasets import NAMES, OWN_SPLITS, read, rows_of, tiny

__all__ = ["tiny"]  # a fixture


@pytest.fixture
def few(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a few-shot command on a dataset with lists of one and two videos a name."""
    counts = {"1": 4, "2": 4}
    preset = Preset("tiny", "Tiny", 3, counts, "", read, shots=shot_list(3, "{k}shot.txt"))
    monkeypatch.setitem(PRESETS, "tiny", preset)
    for k in (1, 2):
        rows = [f"t{n}.avi {n % 3}\n" for n in range(3 * k)]
        (tiny / f"{k}shot.txt").write_text("".join(rows))
    for n in range(6):
        write_video(tiny / "videos" / f"t{n}.mp4", 9, seed=20 + n)
    words = ["-q", "fewshot", "MODEL", "--on", f"tiny:{tiny / 'videos'}", "--lists", str(tiny)]
    words += ["--shots", "2,1", "-o", str(tiny / "few")]
    small = "train.n_frames=2 eval.n_frames=2 match.n_frames=2 epochs=2 warmup_epochs=0 batch_size=4 lr=1e-3"
    return [*words, *(word for setting in small.split() for word in ("-s", setting))]


def test_few_shot_models_beside_their_start(few: list[str], tiny: Path, tiny_clip: Path) -> None:
    words = [f"clip:{tiny_clip}" if word == "MODEL" else word for word in few]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    rows = rows_of(tiny / "few")
    assert {row["split"] for row in rows} == {"1"}  # the lists are drawn beside the first split
    listed = [row for row in rows if (row["names"], row["part"]) == ("as listed", "all")]
    assert [row["model"] for row in listed] == ["frozen", "1-shot", "2-shot"]
    assert ["gain" in row for row in listed] == [False, True, True]
    assert len({row["conditions"]["weights"] for row in listed}) == 3
    for k in (1, 2):
        bags = read_jsonl(tiny / "few" / f"{k}-shot" / "bags.jsonl", Bag)
        names = sorted(bag.name for bag in bags)
        assert names == sorted(k * ["Run Fast", "Sit Down", "jumping"])
    models = sorted((tiny / "few").glob("*-shot/model/model.safetensors"))
    written = [model.stat().st_mtime_ns for model in models]
    assert CliRunner().invoke(main, words).exit_code == 0  # once more: nothing is trained
    assert [model.stat().st_mtime_ns for model in models] == written
    assert rows_of(tiny / "few") == rows


def test_few_shot_needs_all_its_videos(few: list[str], tiny: Path, tiny_clip: Path) -> None:
    words = [f"clip:{tiny_clip}" if word == "MODEL" else word for word in few]
    (tiny / "videos" / "t5.mp4").unlink()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "1 of 6 videos are missing" in done.stderr
    assert not (tiny / "few" / "1-shot").exists()  # before any training
    own = [str(tiny / "videos") if word.startswith("tiny:") else word for word in words]
    for path in (tiny / "videos").glob("t*.mp4"):
        path.unlink()
    told = CliRunner().invoke(main, own)
    assert told.exit_code == 1
    assert "add --draws 3" in told.stderr
    told = CliRunner().invoke(main, [*own, "--draws", "2"])
    assert "whose split is `train` for them" in told.stderr
    assert CliRunner().invoke(main, [*words, "--shots", "two"]).exit_code == 2


def halves(lists: ListFolder) -> Halves:
    splits = [
        Split(half, names, read_items(lists.root / f"{half}.txt", len(names)), ())
        for half, names in (("base", NAMES[:2]), ("novel", [NAMES[2], "jumping rope"]))
    ]
    path = lists.root / "1shot.txt"
    return Halves(*splits, {seed: Listed(path, read_items(path, 3)[:2]) for seed in (1, 2)})


def training(lists: ListFolder, names: Sequence[str]) -> Listed:
    return Listed(lists.root / "2shot.txt", read_items(lists.root / "2shot.txt", 3))


def without_shots(words: list[str]) -> list[str]:
    place = words.index("--shots")
    return words[:place] + words[place + 2 :]


def test_seeded_draws_have_a_mean(few: list[str], tiny: Path, tiny_clip: Path) -> None:
    preset = PRESETS["tiny"]
    PRESETS["tiny"] = Preset(*(*list(vars(preset).values())[:9], training))
    words = [f"clip:{tiny_clip}" if word == "MODEL" else word for word in few]
    done = CliRunner().invoke(main, [*words, "--shots", "1", "--draws", "2"])
    assert done.exit_code == 0, done.stderr
    listed = [row for row in rows_of(tiny / "few") if row["names"] == "as listed"]
    models = ["frozen", "1-shot seed 0", "1-shot seed 1", "1-shot mean of 2"]
    assert [row["model"] for row in listed] == models
    values = [row["top1"] for row in listed[1:3]]
    assert listed[3]["top1"] == pytest.approx(np.mean(values), abs=0.01)
    assert listed[3]["top1_std"] == pytest.approx(np.std(values, ddof=1), abs=0.01)
    about = listed[1]["conditions"]["trained_on"]
    assert about["start"] == f"clip:{tiny_clip}"
    assert (about["shots"], about["seed"], about["start_alpha"]) == (1, 0, None)


def test_draws_are_nested_and_do_not_know_folders() -> None:
    items = [Item(f"a/v{n}.mp4", (n % 2,)) for n in range(20)]
    names = ["x", "y"]
    four, two = (drawn(items, names, k, 7, lambda _: True) for k in (4, 2))
    assert set(two) <= set(four)
    assert [sum(item.labels[0] == label for item in four) for label in (0, 1)] == [4, 4]
    moved = [item._replace(path=f"/data/there/{item.path}") for item in items]
    again = drawn(moved, names, 4, 7, lambda _: True)
    assert [item.path.rpartition("/")[2] for item in again] == [
        item.path.rpartition("/")[2] for item in four
    ]
    assert drawn(items, names, 4, 8, lambda _: True) != four
    # A video that is not there gives its place to the next; the others stay.
    without = drawn(items, names, 4, 7, lambda path: path != four[0].path)
    assert len(set(without) & set(four)) == 7
    with pytest.raises(MaxiError, match="'x' has 10 training videos on disk, fewer than 11 shots"):
        drawn(items, names, 11, 7, lambda _: True)


def test_base_to_novel_by_lists(few: list[str], tiny: Path, tiny_clip: Path) -> None:
    preset = PRESETS["tiny"]
    PRESETS["tiny"] = Preset(*(*list(vars(preset).values())[:9], training, halves))
    (tiny / "base.txt").write_text("v0.avi 0\nv1.avi 1\nv3.avi 0\n")
    (tiny / "novel.txt").write_text("v2.avi 0\nv5.avi 0\nv4.avi 1\n")
    words = [f"clip:{tiny_clip}" if word == "MODEL" else word for word in few]
    told = CliRunner().invoke(main, [*words, "--base-to-novel"])
    assert told.exit_code == 2
    assert "leave out --shots" in told.stderr
    words = without_shots(words)
    done = CliRunner().invoke(main, [*words, "--base-to-novel"])
    assert done.exit_code == 0, done.stderr
    listed = [row for row in rows_of(tiny / "few") if row["names"] == "as listed"]
    models = ["frozen", "16-shot seed 1", "16-shot seed 2", "16-shot mean of 2"]
    for split in ("base", "novel", "harmonic"):
        assert sorted(r["model"] for r in listed if r["split"] == split) == sorted(models)
    for model in models:
        base, novel, harmonic = (
            next(r["top1"] for r in listed if (r["split"], r["model"]) == (split, model))
            for split in ("base", "novel", "harmonic")
        )
        expected = 2 * base * novel / (base + novel) if base + novel else 0
        assert harmonic == pytest.approx(expected, abs=0.01)
    bags = read_jsonl(tiny / "few" / "16-shot-seed-1" / "bags.jsonl", Bag)
    assert {bag.name for bag in bags} == {"Run Fast", "jumping"}


def test_base_to_novel_of_ones_own(few: list[str], tiny: Path, tiny_clip: Path) -> None:
    names = ["a", "b", "c", "d"]
    (tiny / "more").mkdir()
    rows = [f"videos/{NAMES[k % 3]}/v{k}.mp4,{names[k % 4]},test" for k, _ in OWN_SPLITS]
    for n in range(64):
        write_video(tiny / "more" / f"{n}.mp4", 2, seed=100 + n)
        rows.append(f"more/{n}.mp4,{names[n % 4]},train")
    (tiny / "own.csv").write_text("\n".join(["path,label,split", *rows]))
    words = [f"clip:{tiny_clip}" if word == "MODEL" else word for word in few]
    own = [str(tiny / "own.csv") if word.startswith("tiny:") else word for word in words]
    own = without_shots(own)
    done = CliRunner().invoke(main, [*own, "--base-to-novel", "--draws", "1", "-s", "epochs=1"])
    assert done.exit_code == 0, done.stderr
    counts = {(r["split"], r["n"], r["n_names"]) for r in rows_of(tiny / "few") if "n_names" in r}
    assert counts == {("base", 4, 2), ("novel", 2, 2)}
    (tiny / "own.csv").write_text((tiny / "own.csv").read_text().replace(",d,", ",c,"))
    own[own.index("-o") + 1] = str(tiny / "three")
    done = CliRunner().invoke(main, [*own, "--base-to-novel", "--draws", "1"])
    assert "has 3 names, which leave nothing to tell apart in halves" in done.stderr
