"""Looking at bags: one, all in figures, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.files import write_json
from maxi.records import Bag, BagText, Caption, Match, Phrases, Video, write_jsonl
from maxi.reports.bag_check import lines_of, lint, show, stats
from maxi.reports.tables import source_kind
from maxi.run import Run

NAMES = ("run", "sit", "sleep")
JOG = BagText("jog", "phrase:shipped+caption:blip")


def make_run(folder: Path, n: int = 30, worn: bool = False, captions: bool = True) -> Run:
    run = Run(folder)
    ids = [f"v{i}" for i in range(n)]
    write_jsonl(run.manifest, [Video(v, f"{v}.mp4", 9, 25.0, 4, 3) for v in ids])
    names = [NAMES[i % 3] for i in range(n)]
    matches = [Match(v, t, 0.5, i > 0) for i, (v, t) in enumerate(zip(ids, names, strict=True))]
    write_jsonl(run.matches, matches)
    write_jsonl(run.phrases, [Phrases("sit", ("rest on a chair",), "shipped")])
    said = ("a man jogs", "a man jogs") if captions else ()
    write_jsonl(run.captions, [Caption(v, said, "blip") for v in ids])
    own = [(BagText(f"text {i}", "caption:blip"), BagText(f"name {i}", "name")) for i in range(n)]
    texts = [(JOG, *own[i]) if worn or i < 4 else own[i] for i in range(n)]
    write_jsonl(run.bags, [Bag(ids[i], names[i], texts[i]) for i in range(1, n)])
    run.actions.write_text("\n".join(NAMES), encoding="utf-8")
    run.config.write_text("backbone: miniature\n", encoding="utf-8")
    return run


def test_one_bag(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    lines = list(show(run, "v1.mp4"))
    assert lines == list(show(run, "v1")) == list(show(run, "./v1.mp4"))
    assert lines[0] == "video    v1  v1.mp4"
    assert lines[1] == "match    sit  (cosine 0.500, kept)"
    assert "  a man jogs  (2 times)" in lines
    assert "  phrase:shipped+caption:blip  jog" in lines
    assert "no bag" in list(show(run, "v0"))[1]
    with pytest.raises(MaxiError, match="no video of this run is called 'x'"):
        list(show(run, "x"))


def test_a_name_of_two_videos_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_jsonl(run.manifest, [Video(p, f"{p}/v.mp4", 9, 25.0, 4, 3) for p in "ab"])
    with pytest.raises(MaxiError, match=r"2 videos are called 'v\.mp4'"):
        list(show(run, "v.mp4"))


def test_figures(tmp_path: Path) -> None:
    found = stats(make_run(tmp_path))
    assert (found["n"], found["videos_without_bag"], found["empty"]) == (29, 1, 0)
    assert found["agreement"] == pytest.approx(3 / 29)
    assert found["commonest"][0] == ("jog", 3)
    assert "bags       29 (1 videos have none)" in list(lines_of(found))


def test_healthy_bags_raise_nothing(tmp_path: Path) -> None:
    assert lint(make_run(tmp_path), ["jump", "swim"]) == []


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"worn": True}, [], "most of the 29 bags tell nothing apart: 'jog';"),
        ({"captions": False}, [], "29 of 29 videos have no captions"),
        ({}, ["Sit", "jump"], "1 of 2 evaluated names are action names of the run ('Sit')"),
        (
            {},
            ["Jog", "jump"],
            "1 evaluated names that are not action names of the run stand in bags ('Jog')",
        ),
    ],
)
def test_what_lint_finds(
    options: dict[str, bool], names: list[str], message: str, tmp_path: Path
) -> None:
    (found,) = lint(make_run(tmp_path, **options), names)
    assert message in found


def test_empty_bags_and_collapsed_matches(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_jsonl(run.bags, [Bag(f"v{i}", "sit") for i in range(30)])
    write_jsonl(run.matches, [Match(f"v{i}", "sit", 0.5, True) for i in range(30)])
    found = " ".join(lint(run))
    assert "30 of 30 bags are empty" in found
    assert "match one name, 'sit'" in found
    assert "2 of 3 names match no video" in found
    write_jsonl(run.matches, [])
    assert "3 of 3 names match no video" in " ".join(lint(run))


def test_the_commands(tmp_path: Path) -> None:
    make_run(tmp_path)
    invoke = CliRunner().invoke
    assert invoke(main, ["bags", "lint", str(tmp_path)]).stdout == "nothing found\n"
    (tmp_path / "names.txt").write_text("sit\nswim\n")
    done = invoke(main, ["bags", "lint", str(tmp_path), "--names", str(tmp_path / "names.txt")])
    assert done.exit_code == 1
    assert "'sit'" in done.stdout
    assert '"n": 29' in invoke(main, ["bags", "stats", str(tmp_path), "--json"]).stdout
    assert "jog" in invoke(main, ["bags", "show", str(tmp_path), "v1"]).stdout
    write_json(tmp_path / "bags.jsonl", [])
    done = invoke(main, ["bags", "stats", str(tmp_path)])
    assert done.exit_code == 1
    assert "bags.jsonl:1" in done.stderr


def test_a_text_of_several_sources_is_shown_as_of_the_first() -> None:
    assert source_kind("name+caption:blip") == "name"
    assert source_kind("phrase:shipped+name") == "phrase"
