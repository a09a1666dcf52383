"""The presets of the field's datasets: lists and trees of videos in every form that they are handed around in."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.datasets import hmdb51
from maxi.datasets.check import check_dataset
from maxi.datasets.files import ListFolder, VideoTree
from maxi.datasets.lists import Item, read_id_names, read_items
from maxi.datasets.preset import Preset, Split
from maxi.datasets.presets import PRESETS
from maxi.errors import MaxiError


def write(path: Path, text: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def protocols(shared: Path) -> ListFolder:
    if not (shared / "protocols").is_dir():
        pytest.skip("no folder of official lists")
    return ListFolder(shared / "protocols")


@pytest.mark.parametrize("name", PRESETS)
def test_official_lists_have_their_official_sizes(name: str, protocols: ListFolder) -> None:
    preset = PRESETS[name]
    splits = preset.read(protocols)
    assert {split.name: len(split.items) for split in splits} == dict(preset.counts)
    assert {len(split.names) for split in splits} == {preset.n_names}
    several = max(len(item.labels) for split in splits for item in split.items) > 1
    assert several == preset.several_labels


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "ssv2"])
def test_few_shot_lists_have_k_videos_of_each_name(name: str, protocols: ListFolder) -> None:
    preset = PRESETS[name]
    tested = {item.path for item in preset.read(protocols)[0].items}
    assert preset.shots is not None
    for k in (2, 4, 8, 16):
        _, items = preset.shots(protocols, k)
        labels = [item.labels[0] for item in items]
        assert sorted(labels) == sorted(k * list(range(preset.n_names)))
        assert not tested & {item.path for item in items}


def test_names_and_videos_belong_together(protocols: ListFolder) -> None:
    # UCF101 and HMDB51 say the action in the names of the files.
    for split in PRESETS["ucf101"].read(protocols):
        for item in split.items:
            name = split.names[item.labels[0]].replace("HandstandPushups", "HandStandPushups")
            assert item.path.startswith(f"v_{name}_g")
    for split in PRESETS["hmdb51"].read(protocols):
        right = hmdb51.corrected(list(split.names))
        wrong = {
            name
            for item in split.items
            for name in [split.names[item.labels[0]]]
            if f"_{name.replace(' ', '_')}_" not in item.path
        }
        assert wrong <= {"kick ball", "sword exercise"}  # as they are handed around
        assert all(f"_{right[i.labels[0]].replace(' ', '_')}_" in i.path for i in split.items)
        assert hmdb51.corrected(right) == right
    (split,) = PRESETS["charades"].read(protocols)
    assert all(len(set(item.labels)) == len(item.labels) for item in split.items)
    videos = {i.path for split in PRESETS["k600"].read(protocols) for i in split.items}
    assert len(videos) == 19058


def test_rows_in_every_form(tmp_path: Path) -> None:
    text = "\ufeffa b.mp4 0".replace("a b", "a") + "\r\n\r\nsub/b.mp4\t1  0 1\r\n"
    for path in (
        write(tmp_path / "a.txt", text),
        write(tmp_path / "a.txt.gz", gzip.compress(text.encode())),
    ):
        assert read_items(path, 2) == [Item("a.mp4", (0,)), Item("sub/b.mp4", (1, 0))]
    table = write(tmp_path / "a.csv", '\ufeffid,name\r\n0,"to run, or jump"\r\n1,sit\r\n')
    assert read_id_names(table) == ["to run, or jump", "sit"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.mp4 0\nb.mp4\n", r"a\.txt:2: 'b\.mp4' is not a path and ids from 0 to 1"),
        ("a.mp4 2\n", "is not a path and ids from 0 to 1"),
        ("a.mp4 -1\n", "is not a path and ids"),
        ("a.mp4 run\n", "is not a path and ids"),
        ("a.mp4 0\na.mp4 1\n", r"a\.txt:2: a\.mp4 stands on line 1 already"),
        ("\n", "names no videos"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_broken_lists_are_refused(tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(MaxiError, match=fault):
        read_items(write(tmp_path / "a.txt", text), 2)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,name\n1,run\n2,jump\n", r"row 1 is '1' and not 0"),
        ("id,name\n0,run\n1,run\n", "'run' comes twice"),
        ("id,name\n0,\n", "no table with the columns id and name"),
        ("a,b\n0,run\n", "no table with the columns"),
        ("", "no table with the columns"),
    ],
)
def test_broken_names_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(MaxiError, match=fault):
        read_id_names(write(tmp_path / "a.csv", text))


def _ucf101(root: Path) -> None:
    write(root / "ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n")
    for k in (1, 2, 3):
        rows = f"ApplyEyeMakeup/v_A_g0{k}.avi\nHandStandPushups/v_HandStandPushups_g0{k}.avi\n"
        write(root / f"ucfTrainTestlist/testlist0{k}.txt", rows)


def _hmdb51(root: Path) -> None:
    for k in (1, 2, 3):
        write(root / f"s/kick_test_split{k}.txt", f"a_{k}.avi 2 \nb.avi 1 \nc.avi 0 \n")
        write(root / f"s/kick_ball_test_split{k}.txt", f"d_{k}.avi 2 \n")


def _k400(root: Path) -> None:
    rows = (
        "label,youtube_id,time_start,time_end,split\nrun,-abc,5,15,val\njump up,x_y,117,127,val\n"
    )
    write(root / "val.csv", rows)


def _ssv2(root: Path) -> None:
    write(root / "labels/labels.json", json.dumps({"Holding something": "1", "Moving up": "0"}))
    rows = [{"id": "7", "label": "holding a cup", "template": "Holding [something]"}]
    write(root / "labels/validation.json", json.dumps(rows))


def _charades(root: Path) -> None:
    write(root / "Charades_v1_classes.txt", "c000 Holding some clothes\nc001 Sitting\n")
    rows = "id,subject,actions\nAB12,x,c001 1.0 2.0;c000 3.0 4.0;c001 5.0 6.0\nCD34,y,\n"
    write(root / "Charades_v1_test.csv", rows)


def _mit(root: Path) -> None:
    write(root / "moments_categories.txt", "adult+female+singing,1\nclapping,0\n")
    write(
        root / "validationSet.csv",
        "clapping/a.mp4,clapping,3,0\nb/b.mp4,adult+female+singing,3,1\n",
    )


@pytest.mark.parametrize(
    ("make", "names", "items"),
    [
        (
            _ucf101,
            ["ApplyEyeMakeup", "HandstandPushups"],
            [
                ("ApplyEyeMakeup/v_A_g01.avi", (0,)),
                ("HandStandPushups/v_HandStandPushups_g01.avi", (1,)),
            ],
        ),
        (_hmdb51, ["kick", "kick ball"], [("kick/a_1.avi", (0,)), ("kick_ball/d_1.avi", (1,))]),
        (
            _k400,
            ["jump up", "run"],
            [("-abc_000005_000015.mp4", (1,)), ("x_y_000117_000127.mp4", (0,))],
        ),
        (_ssv2, ["Moving up", "Holding something"], [("7.webm", (1,))]),
        (_charades, ["holding some clothes", "sitting"], [("AB12.mp4", (1, 0))]),
        (
            _mit,
            ["clapping", "adult female singing"],
            [("validation/clapping/a.mp4", (0,)), ("validation/b/b.mp4", (1,))],
        ),
    ],
)
def test_the_authors_own_files_are_read(
    tmp_path: Path,
    make: Callable[[Path], None],
    names: list[str],
    items: list[tuple[str, tuple[int, ...]]],
) -> None:
    make(tmp_path)
    split = PRESETS[make.__name__[1:]].read(ListFolder(tmp_path))[0]
    assert list(split.names) == names
    assert [tuple(item) for item in split.items] == items


@pytest.mark.parametrize("make", [_ucf101, _hmdb51, _k400, _ssv2])
def test_the_authors_own_training_lists_have_the_names_of_the_test_split(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    write(
        tmp_path / "ucfTrainTestlist/trainlist01.txt",
        "HandStandPushups/v_HandStandPushups_g9.avi 2\n",
    )
    write(tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split\nrun,zz,1,11,train\n")
    rows = [{"id": "9", "label": "x", "template": "Holding [something]"}]
    write(tmp_path / "labels/train.json", json.dumps(rows))
    preset, lists = PRESETS[make.__name__[1:]], ListFolder(tmp_path)
    names = preset.read(lists)[0].names
    assert preset.training is not None
    _, items = preset.training(lists, names)
    assert [(item.path, names[item.labels[0]]) for item in items] == {
        "ucf101": [("HandStandPushups/v_HandStandPushups_g9.avi", "HandstandPushups")],
        "hmdb51": [("kick/b.avi", "kick")],
        "k400": [("zz_000001_000011.mp4", "run")],
        "ssv2": [("9.webm", "Holding something")],
    }[preset.name]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "ssv2", "k400"])
def test_base_to_novel_lists_have_16_videos_of_each_base_name(
    name: str, protocols: ListFolder
) -> None:
    read = PRESETS[name].halves
    assert read is not None
    base, novel, training = read(protocols)
    assert len(base.names) + len(novel.names) == PRESETS[name].n_names
    assert not {*base.names} & {*novel.names}
    tested = {item.path for split in (base, novel) for item in split.items}
    assert len(tested) == next(iter(PRESETS[name].counts.values()))
    for _, items in training.values():
        assert sorted(item.labels[0] for item in items) == sorted(16 * list(range(len(base.names))))
        assert not tested & {item.path for item in items}


@pytest.mark.parametrize("name", PRESETS)
def test_missing_lists_say_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(MaxiError, match=r"looked for .*--lists"):
        check_dataset(name, str(tmp_path))


@pytest.mark.parametrize(
    "tree",
    [
        ["v_a_g01.avi", "v_b_g01.avi"],
        ["A/v_a_g01.avi", "B/v_b_g01.avi"],
        ["x/y/A/v_a_g01.mp4", "B/v_b_g01.WEBM"],
        ["V_A_G01.MKV", "v_b_g01.avi"],
    ],
)
def test_videos_are_found_in_every_form_of_tree(tmp_path: Path, tree: list[str]) -> None:
    for path in tree:
        write(tmp_path / path)
    found = VideoTree(tmp_path)
    assert len(found) == 2
    for listed in ("v_a_g01.avi", "A/v_a_g01.avi", "some\\where/else/v_a_g01.avi"):
        assert found.find(listed) == tmp_path / tree[0]
    assert found.find("v_c_g01.avi") is None


def test_folders_decide_between_files_of_one_name(tmp_path: Path) -> None:
    for path in (
        "train/a/1.mp4",
        "train/b/1.mp4",
        "val/a/1.mp4",
        "2.mp4",
        "2.webm",
        "c/3.mp4",
        "d/3.mp4",
    ):
        write(tmp_path / path)
    found = VideoTree(tmp_path)
    assert found.find("b/1.mp4") == tmp_path / "train/b/1.mp4"
    assert found.find("val/a/1.avi") == tmp_path / "val/a/1.mp4"
    assert found.find("2.webm") == tmp_path / "2.webm"
    with pytest.raises(MaxiError, match=r"both fit the listed 3\.mp4; remove one"):
        found.find("3.mp4")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A dataset of six videos in two splits, of which the lists are in `lists`."""

    def read(lists: ListFolder) -> list[Split]:
        path = lists.require("list of split 1", "tiny.txt")
        items = read_items(path, 2)
        return [
            Split(k, ["run", "jump"], items[i : i + 3], (path,)) for k, i in (("1", 0), ("2", 3))
        ]

    preset = Preset("tiny", "Tiny", 2, {"1": 3, "2": 3}, "tiny.txt", read)
    monkeypatch.setitem(PRESETS, "tiny", preset)
    rows = "".join(f"v{k}.avi {k % 2}\n" for k in range(6))
    write(tmp_path / "lists/tiny.txt", rows)
    for k in range(6):
        write(tmp_path / f"videos/{k % 2}/v{k}.mp4")
    return tmp_path


def test_check_tells_what_is_missing_name_by_name(tiny: Path) -> None:
    line = ["data", "check", "tiny", str(tiny / "videos"), "--lists", str(tiny / "lists")]
    whole = CliRunner().invoke(main, line)
    assert whole.exit_code == 0, whole.stderr
    assert "split 1: 3 videos listed, 3 found, 0 missing" in whole.stdout
    for k in (1, 3, 5):
        os.unlink(tiny / f"videos/1/v{k}.mp4")
    part = CliRunner().invoke(main, line)
    assert part.exit_code == 1
    assert "split 1: 3 videos listed, 2 found, 1 missing\n  jump: 1 of 1 missing" in part.stdout
    assert "split 2: 3 videos listed, 1 found, 2 missing\n  jump: 2 of 2 missing" in part.stdout
    rows = [
        json.loads(row) for row in CliRunner().invoke(main, [*line, "--json"]).stdout.splitlines()
    ]
    assert [row["missing"] for row in rows] == [["v1.avi"], ["v3.avi", "v5.avi"]]
    with (tiny / "lists/tiny.txt").open("a") as file:
        file.write("v6.avi 0\n")
    assert "videos listed (officially 3)" not in whole.stdout
    write(tiny / "lists/tiny.txt", "v0.avi 0\nv1.avi 1\n")
    short = CliRunner().invoke(main, line)
    assert "split 1: 2 videos listed (officially 3), 1 found, 1 missing" in short.stdout
    assert short.exit_code == 1


def test_another_folder_is_refused(tiny: Path) -> None:
    (tiny / "empty").mkdir()
    with pytest.raises(MaxiError, match=r"none of the 6 videos of Tiny, such as v0\.avi \(0 other"):
        check_dataset("tiny", str(tiny / "empty"), tiny / "lists")
    with pytest.raises(MaxiError, match="is no folder"):
        check_dataset("tiny", str(tiny / "nowhere"), tiny / "lists")
    with pytest.raises(MaxiError, match="unknown dataset 'tini'; did you mean tiny"):
        check_dataset("tini", str(tiny))


def test_a_dataset_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    for path in ("videos/push_up/a.mp4", "videos/sit-up/b.mp4", "videos/sit-up/c.mp4"):
        write(tmp_path / path)
    checked = check_dataset("own", str(tmp_path / "videos"))
    assert checked.is_complete
    (part,) = checked.found
    assert (list(part.split.names), len(part.videos)) == (["push up", "sit-up"], 3)
    write(
        tmp_path / "own.csv",
        "path,label,split\nvideos/push_up/a.mp4,push up,1\nnone.mp4,sit up,1\n",
    )
    (part,) = check_dataset("own", f"{tmp_path / 'own.csv'}:1").found
    assert part.missing_by_name() == [("sit up", 1, 1)]
    write(tmp_path / "list.txt", "a.mp4\n")
    with pytest.raises(MaxiError, match="have no label"):
        check_dataset("own", str(tmp_path / "list.txt"))


def test_the_presets_are_listed() -> None:
    told = CliRunner().invoke(main, ["data", "list"]).stdout
    assert "ucf101     UCF101: 101 names; videos of split 1: 3,783, 2: 3,734, 3: 3,696" in told
    rows = CliRunner().invoke(main, ["data", "list", "--json"]).stdout.splitlines()
    assert [json.loads(row)["name"] for row in rows] == list(PRESETS)
