"""What is printed: nothing from outside commands the terminal, and a stdout that takes nothing ends in a sentence."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.cli.output import Formatter, visible
from media import write_video

SOURCE = Path(__file__).parents[1] / "src"
posix = pytest.mark.skipif(os.name != "posix", reason="needs such names and /dev/full")
COMMAND = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def test_one_door() -> None:
    writers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"click\.echo|^\s*print\(", path.read_text(encoding="utf-8"), re.M)
    }
    assert writers == {"maxi/cli/output.py", "maxi/progress.py"}  # the latter prints labels of ours


def test_what_commands_a_terminal_is_written_as_in_json() -> None:
    text = "a\x1b[31mred\x07\x9b2J\u202egnp\r\nrm\x7f é 動画\t."
    assert (
        visible(text)
        == "a\\u001b[31mred\\u0007\\u009b2J\\u202egnp\\u000d\\u000arm\\u007f é 動画\t."
    )
    assert visible(json.dumps(["\x9b"], ensure_ascii=False)) == json.dumps(["\x9b"])
    record = logging.LogRecord("maxi", 30, "", 0, "%s\nand more", ("\x1b]0;title\x07",), None)
    assert Formatter("maxi: %(message)s").format(record) == (
        "maxi: \\u001b]0;title\\u0007\nand more"
    )


@posix
def test_names_of_files_command_nothing(tmp_path: Path, actions: Path, tiny_clip: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "good.mp4", 6).rename(tmp_path / "videos" / "a\x1b[31mred\x07\n.mp4")
    (tmp_path / "videos" / "b\x1b]0;title\x07\u202e.mp4").write_text("no video")
    place, clip = str(tmp_path / "videos"), f"clip:{tiny_clip}"
    for words in (
        ["check", place],
        ["check", place, "--json"],
        ["classify", place, "--model", clip, "--actions", str(actions)],
        ["classify", place, "--model", clip, "--actions", str(actions), "--json"],
        ["index", place, "--actions", str(actions), "-o", str(tmp_path / "run")],
        ["match", f"{place}\x1b[2J"],
        ["\x1b[2J"],
    ):
        told = CliRunner().invoke(main, ["-q", *words])
        assert not COMMAND.search(told.stdout + told.stderr), words
        if "--json" in words:
            paths = [json.loads(line).get("path", "") for line in told.stdout.splitlines()]
            assert any("\x1b" in path for path in paths)
    # A table goes to a file as it is.
    line = ["-q", "classify", place, "--model", clip, "--actions", str(actions), "--csv"]
    assert "a\x1b[31mred\x07\n.mp4" in CliRunner().invoke(main, line).stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["check", "VIDEOS"], ["check", "-h"]])
def test_a_full_disk_under_what_is_printed(videos: Path, words: list[str]) -> None:
    line = [sys.executable, "-m", "maxi", *(str(videos) if w == "VIDEOS" else w for w in words)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    (told,) = [row for row in done.stderr.splitlines() if row.startswith("maxi: ")]
    assert told.startswith("maxi: what the command prints cannot be written (No space left")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@posix
@pytest.mark.parametrize("words", [["--help"], ["check", "VIDEOS", "--json"]])
def test_a_reader_that_has_enough_ends_it_quietly(
    videos: Path, tmp_path: Path, words: list[str]
) -> None:
    for n in range(3):
        (tmp_path / f"{n}.mp4").write_text("no video")
    line = [sys.executable, "-m", "maxi", "-q"]
    line += [str(tmp_path) if word == "VIDEOS" else word for word in words]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
