"""`maxi.video.sources`: lists of videos and of names, in the shapes people have them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from maxi.errors import MaxiError
from maxi.video.identity import content_id
from maxi.video.sources import LAYOUTS, Source, list_videos, read_names


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(where: str | Path, root: Path) -> list[tuple[str, str | None]]:
    return [(str(source.path.relative_to(root)), source.label) for source in list_videos(where)]


def test_a_folder_is_read_to_its_depths(tmp_path: Path) -> None:
    touch(tmp_path, "push_up/b.MP4", "push_up/deep/er/a.avi", "loose.webm", "jump  high/c.mov")
    touch(tmp_path, "push_up/notes.txt", ".hidden.mp4", ".cache/d.mp4", "push_up/._b.mp4")
    assert listed(tmp_path, tmp_path) == [
        ("loose.webm", None),
        ("jump  high/c.mov", "jump high"),
        ("push_up/b.MP4", "push up"),
        ("push_up/deep/er/a.avi", "push up"),
    ]


def test_a_folder_whose_name_is_no_text_has_a_label_that_is(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9_run"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with open(folder + b"/a.mp4", "wb"):
        pass
    (source,) = list_videos(tmp_path)
    assert source.label == "caf\ufffd run"
    assert source.path.exists()


def test_one_video_is_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "clip.MP4").write_bytes(b"\0\0\0\x18ftyp\xff")
    assert list_videos(tmp_path / "clip.MP4") == [Source(tmp_path / "clip.MP4", None)]
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MaxiError, match="holds no videos"):
        list_videos(tmp_path / "folder.mp4")


def test_links_may_lead_in_circles_or_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b/self").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "b/pipe.mp4")
    assert [name for name, _ in listed(tmp_path, tmp_path)] == ["a/1.mp4", "b/2.mp4", "b/gone.mp4"]


def test_a_table_with_a_header(tmp_path: Path) -> None:
    table = tmp_path / "set.csv"
    table.write_bytes(
        b"\xef\xbb\xbfid, Path ,label,split\r\n"
        b'1,"v/a, b.mp4",push  up,train\r\n\r\n'
        b"2,/abs/#2 x  y.avi,,test\r\n"
        b"3,v/3.mp4,run,train\r\n"
    )
    sources = list_videos(table)
    assert sources == [
        Source(tmp_path / "v/a, b.mp4", "push up", "train"),
        Source(Path("/abs/#2 x  y.avi"), None, "test"),
        Source(tmp_path / "v/3.mp4", "run", "train"),
    ]
    assert list_videos(f"{table}:train") == [sources[0], sources[2]]
    assert list_videos(f"{table}:test") == [sources[1]]


def test_a_table_without_header(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a.MP4,run\nb.avi\n")
    assert listed(tmp_path / "set.csv", tmp_path) == [("a.MP4", "run"), ("b.avi", None)]


def test_a_list_of_paths(tmp_path: Path) -> None:
    text = "\ufeffa b.mp4\r\n\r\n#1.mp4\tpush  up\r\nsub/x,y.avi\t\r\n/abs/z.mkv"
    (tmp_path / "videos.txt").write_bytes(text.encode())
    assert list_videos(tmp_path / "videos.txt") == [
        Source(tmp_path / "a b.mp4", None),
        Source(tmp_path / "#1.mp4", "push up"),
        Source(tmp_path / "sub/x,y.avi", None),
        Source(Path("/abs/z.mkv"), None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "does not exist; name a folder"),
        ("none.csv:train", None, r"none\.csv does not exist"),
        ("folder", "", r"holds no videos; looked for \.mp4 \.m4v"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "file,label\nx,y\n", "no column `path`, only file, label"),
        ("a.csv", "path,label\n", "names no videos"),
        ("a.csv", "path,label\nx.mp4,run\n,run\n", r"a\.csv:3: the path is empty"),
        ("a.csv", "id,path\n1,x.mp4\n2\n", r"a\.csv:3: the path is empty"),
        ("a.csv:dev", "path,split\nx.mp4,val\ny.mp4,train\n", "no split 'dev'; it has train, val"),
        ("a.csv:dev", "path,label\nx.mp4,run\n", "no column `split`"),
        ("a.csv", 'path,label\n"x.mp4,run\n', "not a table"),
        ("a.txt", "\n \n", "names no videos"),
        ("a.txt", "a.mp4\n\tlabel\n", r"a\.txt:2: the path is empty"),
        ("a.jpg", b"\0\0\0\x18ftyp", "not a text file"),
        ("a.mp4:train", b"", r"a\.mp4:train does not exist"),
        ("a.txt", b"caf\xe9.mp4", "not UTF-8"),
    ],
)
def test_what_lists_nothing_says_why(
    tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / name.partition(":")[0]
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(MaxiError, match=message):
        list_videos(tmp_path / name)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "csv"])
def test_only_tables_have_splits(tmp_path: Path, layout: str) -> None:
    with pytest.raises(MaxiError, match="has no splits"):
        LAYOUTS[layout](tmp_path, "train")


def test_an_id_depends_on_content_alone(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "a.mp4", tmp_path / "sub/other name.avi")
    first = content_id(tmp_path / "a.mp4")
    assert content_id(str(tmp_path / "sub/other name.avi")) == first
    assert len(first) == 16
    assert int(first, 16)
    others = {first}
    for place in (0, 100_000, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "b.mp4").write_bytes(changed)
        others.add(content_id(tmp_path / "b.mp4"))
    for content in (b"", b"x", data + b"x", data[:-1], data[: 64 * 1024 + 1]):
        (tmp_path / "b.mp4").write_bytes(content)
        others.add(content_id(tmp_path / "b.mp4"))
    assert len(others) == 10


def test_an_id_of_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("none.mp4", "does not exist"),
        ("pipe.mp4", "not a file"),
        ("", "a folder"),
    ):
        with pytest.raises(MaxiError, match=reason):
            content_id(tmp_path / name)


def test_names_are_read_in_order(tmp_path: Path) -> None:
    text = "\ufeffswing  dancing\r\n\r\n  air drumming\t\r\nélan\r\nrun, then jump"
    (tmp_path / "names.txt").write_bytes(text.encode())
    names = ["swing dancing", "air drumming", "élan", "run, then jump"]
    assert read_names(tmp_path / "names.txt") == names
    (tmp_path / "names.csv").write_text('id,name\n3,swing  dancing\n1,"run, then jump"\n')
    assert read_names(str(tmp_path / "names.csv")) == ["swing dancing", "run, then jump"]


def test_what_a_name_cannot_show_is_a_space(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("push\tup\x1b\nsit\x07\x85down\n\x7f\n")
    assert read_names(tmp_path / "a.txt") == ["push up", "sit down"]
    (tmp_path / "a.csv").write_text('name\n"push\nup"\n')
    assert read_names(tmp_path / "a.csv") == ["push up"]
    (tmp_path / "set.csv").write_text('path,label\nx.mp4,"push\nup\x1b"\n')
    assert list_videos(tmp_path / "set.csv") == [Source(tmp_path / "x.mp4", "push up")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", None, "does not exist"),
        ("a.txt", b"\n  \n", "is empty"),
        ("a.txt", b"Run\n\njump\n run \n", r"a\.txt:4: 'run' stands on line 1 already"),
        ("a.csv", b"id,name\n0,run\n1,jump\n2,RUN\n", r"a\.csv:4: 'RUN' stands on line 2"),
        ("a.csv", b"id,title\n0,run\n", "no column `name`, only id, title"),
        ("a.csv", b"id,name\n", "is empty"),
        ("a.txt", b"run\n" + b"x" * 201, r"a\.txt:2: a name of 201 characters"),
        ("a.txt", b"run\0jump", "not a text file"),
        ("a.txt", b"\xff\xfer\0u\0n\0", "not UTF-8"),
    ],
)
def test_bad_names_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MaxiError, match=message):
        read_names(tmp_path / name)


def test_files_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.MP4", "b.3gp", "c.VOB", "d.txt", "e.jpg", "f.JPG", "g", ".hidden"):
        (tmp_path / name).touch()
    assert [s.path.name for s in list_videos(tmp_path)] == ["a.MP4", "b.3gp", "c.VOB"]
    assert "4 files are left out" in caplog.text
    assert "(2 .jpg, 1 .txt, 1 no suffix)" in caplog.text


def test_a_folder_that_cannot_be_read_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waving").mkdir()
    (tmp_path / "waving" / "a.mp4").touch()
    (tmp_path / "lost").mkdir()
    scandir = os.scandir

    def refused(folder: str) -> object:
        if Path(folder).name == "lost":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    sources = list_videos(tmp_path)
    assert [s.path.name for s in sources] == ["a.mp4", "lost"]
    with pytest.raises(MaxiError, match="a folder of which nothing can be read"):
        content_id(sources[1].path)
