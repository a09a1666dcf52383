"""The command as a user meets it: exit codes, one sentence for each mistake, results on stdout."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from maxi.cli import main
from media import write_video

SETTINGS = "match.n_frames=2 caption.n_frames=2 train.n_frames=2 eval.n_frames=2 batch_size=4 epochs=1 workers=1"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def adapt(
    videos: object, actions: object, out: object, clip: object, *more: object
) -> list[object]:
    extra = [x for s in SETTINGS.split() for x in ("-s", s)]
    return [
        "-q",
        "adapt",
        videos,
        "--actions",
        actions,
        "-o",
        out,
        "--backbone",
        f"clip:{clip}",
        *extra,
        *more,
    ]


def fails(result: Result, *words: str) -> None:
    """Exit code 1 and one sentence, without traceback."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len([line for line in lines if line.startswith("maxi: ")]) >= 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[-1], result.stderr


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_says_what_it_does_with_an_example(verb: str) -> None:
    shown = run(verb, "--help")
    assert shown.exit_code == 0
    assert f"Example: maxi {verb} " in " ".join(shown.output.split())
    first = (main.commands[verb].help or "").split()[0]
    assert first[0].isupper()
    assert not first.endswith(("s", "ing"))  # it opens with a verb


def test_wrong_usage_is_2() -> None:
    assert run("adapt").exit_code == 2
    assert run("nothing").exit_code == 2
    assert run("--version").exit_code == 0


def test_check(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4")
    whole = write_video(tmp_path / "whole.avi", n_frames=100)
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mkv").touch()
    result = run("-q", "check", tmp_path)
    assert result.exit_code == 0
    assert "5 files: 2 readable, 1 end early, 2 unreadable" in result.stdout
    rows = [json.loads(line) for line in run("-q", "check", tmp_path, "--json").stdout.splitlines()]
    assert {Path(r["path"]).name: r["kind"] for r in rows} == {
        "cut.avi": "short",
        "text.mp4": "unreadable",
        "empty.mkv": "unreadable",
    }
    (tmp_path / "good.mp4").unlink()
    (tmp_path / "whole.avi").unlink()
    (tmp_path / "cut.avi").unlink()
    fails(run("-q", "check", tmp_path), "none of the 2 videos can be read")


def test_bad_inputs_are_said_before_any_work(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (tmp_path / "nothing").mkdir()
    fails(run(*adapt(tmp_path / "nothing", actions, out, tiny_clip)), "holds no videos")
    fails(run(*adapt(tmp_path / "missing", actions, out, tiny_clip)), "does not exist")
    (tmp_path / "empty.txt").touch()
    fails(run(*adapt(videos, tmp_path / "empty.txt", out, tiny_clip)), "is empty")
    (tmp_path / "twice.txt").write_text("run\njump\nRun\n")
    fails(run(*adapt(videos, tmp_path / "twice.txt", out, tiny_clip)), "twice.txt:3", "already")
    fails(run(*adapt(videos, actions, out, tiny_clip, "-s", "lrr=1")), "did you mean 'lr'")
    fails(run(*adapt(videos, actions, out, tmp_path / "none")), "no such folder")
    fails(run(*adapt(videos, actions, out, "some/model-nobody-has")), "--backbone objects")
    fails(run(*adapt(videos, actions, out, tiny_clip, "--device", "quantum")), "quantum")
    fails(
        run(*adapt(videos, actions, out, tiny_clip, "--eval", tmp_path / "missing")),
        "does not exist",
    )
    (tmp_path / "one.txt").write_text("run\n")
    fails(run(*adapt(videos, tmp_path / "one.txt", tmp_path / "run1", tiny_clip)), "add others")
    flat = next(videos.rglob("*.mp4")).parent
    fails(run(*adapt(videos, actions, out, tiny_clip, "--eval", flat)), "have no label")
    for setting, words in {
        "objective=mil": "did you mean mil_nce",
        "expander=shiped": "did you mean shipped",
        "captioner=blop": "unknown captioner",
        "captioner=file:none.jsonl": "none.jsonl does not exist",
        "templates=[a photo]": "no {}",
    }.items():
        fails(run(*adapt(videos, actions, out, tiny_clip, "-s", setting)), words)
    (tmp_path / "file").touch()
    fails(run(*adapt(videos, actions, tmp_path / "file" / "run", tiny_clip)), "choose another -o")
    assert not out.exists()
    fails(run("match", out), "holds no run")


def test_odd_names_and_single_frames_go_all_the_way(
    actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    root = tmp_path / "v"
    root.mkdir()
    for i, name in enumerate(
        ["-dash.mp4", "co:lon.mp4", "o'dd #1 [x] ü 名.mp4", "<script>.mp4", "ten.gif"]
    ):
        write_video(root / name, n_frames=10, seed=i)
    write_video(root / "one.mp4", n_frames=1)
    os.rename(root / "-dash.mp4", os.path.join(os.fsencode(root), b"no utf-8 \xff.mp4"))
    write_video(root / "-dash.mp4", n_frames=12, seed=9)
    result = run(*adapt(root, actions, tmp_path / "run", tiny_clip))
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "run" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 7
    assert run("-q", "check", root).exit_code == 0
    rows = run("-q", "classify", root, "--model", tmp_path / "run", "--json").stdout.splitlines()
    assert len(rows) == 7
    assert "<script>.mp4" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_too_many_unreadable_videos_stop_the_run(
    actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    root = tmp_path / "v"
    root.mkdir()
    for i in range(6):
        write_video(root / f"good {i}.mp4", n_frames=4, seed=i)
        (root / f"bad {i}.mp4").write_text(f"no video {i}")
    out = tmp_path / "run"
    fails(
        run(*adapt(root, actions, out, tiny_clip)), "6 of 12 videos cannot be read", "--max-skipped"
    )
    listed = (out / "skipped.jsonl").read_text().splitlines()
    assert len(listed) == 6
    assert (
        run(*adapt(root, actions, out, tiny_clip, "--resume", "--max-skipped", "0.5")).exit_code
        == 0
    )


def test_stages_one_by_one_and_the_rest(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    extra = [x for s in SETTINGS.split() for x in ("-s", s)]
    first = run(
        "-q",
        "index",
        videos,
        "--actions",
        actions,
        "-o",
        out,
        "--backbone",
        f"clip:{tiny_clip}",
        *extra,
    )
    assert first.exit_code == 0, first.output
    for verb in ("match", "expand", "caption", "bag", "train"):
        result = run("-q", verb, out)
        assert result.exit_code == 0, result.output
        assert str(out) in result.stdout
    result = run("-q", "eval", out, "--on", videos)
    assert result.exit_code == 0, result.output
    assert "top-1" in result.stdout
    assert run("-q", "report", out).exit_code == 0
    assert run("-q", "verify", out, "-n", "10").exit_code == 0
    clip = next(videos.rglob("*.mp4"))
    shown = run("-q", "classify", clip, "--model", out)
    assert shown.exit_code == 0
    assert "playing guitar" in shown.stdout
    rows = [
        json.loads(line)
        for line in run("-q", "classify", videos, "--model", out, "--json").stdout.splitlines()
    ]
    assert len(rows) == 8
    table = run("-q", "classify", clip, "--model", out, "--csv", "-k", "2").stdout.splitlines()
    assert table[0] == "path,start,end,rank,name,score,cosine,none,is_none"
    assert len(table) == 3
    shown = run("-q", "classify", clip, "--model", out, "--none", "--json")
    assert 0 <= json.loads(shown.stdout)["none"] <= 1


def test_resume_needs_no_flag_twice(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(*adapt(videos, actions, out, tiny_clip)).exit_code == 0
    before = (out / "config.yaml").read_text()
    again = run("-q", "adapt", videos, "--actions", actions, "-o", out, "--resume")
    assert again.exit_code == 0, again.output
    assert (out / "config.yaml").read_text() == before


def test_stale_files_are_refused(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(*adapt(videos, actions, out, tiny_clip, "--control", "shuffled")).exit_code == 0
    assert run("-q", "match", out, "-s", "keep=1.0").exit_code == 0
    fails(run("-q", "train", out), "bags.jsonl was made before matches.jsonl changed", "maxi bag")
    assert run("-q", "bag", out).exit_code == 0
    fails(run("-q", "eval", out), "training.json was made before bags.jsonl changed", "maxi train")
    assert run("-q", "train", out).exit_code == 0
    assert run("-q", "eval", out).exit_code == 0
    row = json.loads((out / "predictions.jsonl").read_text().splitlines()[0])
    assert "adapted" in row
    assert "shuffled" not in row  # the control is of the old bags


SCRIPT = [sys.executable, "-m", "maxi"]


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = subprocess.run(
        [*SCRIPT, *map(str, adapt(videos, actions, tmp_path / "run", tiny_clip))],
        capture_output=True,
        text=True,
        preexec_fn=small_files,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("maxi: ")
    again = run(*adapt(videos, actions, tmp_path / "run", tiny_clip, "--resume"))
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_ctrl_c_is_130_and_leaves_no_process(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    import psutil

    process = subprocess.Popen(
        [
            *SCRIPT,
            *map(str, adapt(videos, actions, tmp_path / "run", tiny_clip, "-s", "epochs=100000")),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "bags.jsonl.meta.json"
    while not log.exists() and process.poll() is None:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    psutil.wait_procs(children, timeout=600)
    assert not [c for c in children if c.is_running()]


def test_a_swallowed_ctrl_c_ends_the_next_loop() -> None:
    """Python drops what is raised in a destructor."""
    code = """
import os, signal
from maxi.progress import bar, heed_interrupts
class Loses:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
heed_interrupts()
Loses()
print("swallowed", flush=True)
for item in bar(range(3), 3, "items"):
    print(item)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "swallowed\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
