"""A finished run whose files were edited at random: every command ends with an answer or with one sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from maxi.cli import main
from maxi.progress import silent
from maxi.records import Video, read_jsonl
from maxi.run import Run
from maxi.stages.adapt import adapt
from maxi.stages.asking import ask
from maxi.stages.job import open_job
from maxi.stages.judgements import add
from maxi.stages.refine import refine_run
from test_adapt import settings

# Each file of a run, as a pattern, and the commands that read it.
READERS = {
    "config.yaml": ["match", "bag", "train", "eval", "report", "bags stats"],
    "actions.txt": ["expand", "match", "eval", "report"],
    "manifest.jsonl": [
        *("match", "caption", "bag", "train", "eval", "report", "verify", "cache --dry-run"),
        *("bags show", "bags lint"),
    ],
    "skipped.jsonl": ["report"],
    "matches.jsonl": ["bag", "report", "bags show", "bags lint", "train -s curriculum=0.5"],
    "phrases.jsonl": ["bag", "bags show", "bags lint"],
    "captions.jsonl": ["caption", "bag", "report", "bags show", "bags lint"],
    "bags.jsonl": [
        *("bag", "train", "eval", "report", "cache --dry-run", "ensemble", "plan"),
        *("bags show", "bags stats", "bags lint"),
    ],
    "training.json": ["train", "eval", "ensemble", "report"],
    "predictions.jsonl": ["report", "verify"],
    "results.json": ["report"],
    "train.jsonl": ["report", "train"],
    "eval/manifest.jsonl": ["eval", "ensemble", "report", "bags lint"],
    "eval/predictions.jsonl": ["report"],
    "control/training.json": ["eval"],
    "control/train.jsonl": ["report"],
    "matches.jsonl.meta.json": ["match", "bag"],
    "captions.jsonl.meta.json": ["caption", "bag"],
    "bags.jsonl.meta.json": ["bag", "train"],
    "training.json.meta.json": ["train", "eval"],
    "manifest.jsonl.meta.json": ["index"],
    "actions.txt.meta.json": ["index"],
    "results.json.meta.json": ["report"],
    "model/maxi.json": ["eval", "report"],
    "model/config.json": ["eval", "report"],
    "features/*.ids": ["match -s keep=0.5", "eval"],
    "features/*.f32": ["match -s keep=0.5", "eval"],
    "checkpoints/step-*/state.json": ["train", "ensemble"],
    "asked.jsonl": ["refine"],
    "judgements.jsonl": ["refine"],
    "refinement.safetensors": ["classify", "report"],
}

N_EDITS = 6  # of each file

STRANGE: list[Any] = [
    *(None, True, -1, 0, 10**30, 10**400, 1.5, -0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "\0", "\ud800", "a" * 20_000, [], {}, [None], {"x": 1}, [[[]]], ["x", 1]),
]
"""Values that take the place of any other."""


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container within a document and each key of it."""
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in list(keys):
        yield data, key
        yield from places(data[key])


def another_value(data: Any, draw: random.Random) -> Any:
    """Replace a value, remove it, or put it into a list or under another key."""
    container, key = draw.choice(list(places([data]))[1:] or [([data], 0)])
    change = draw.choice(["replace", "replace", "replace", "remove", "wrap", "rename"])
    if change == "replace":
        container[key] = draw.choice(STRANGE)
    elif change == "wrap":
        container[key] = [container[key]]
    elif isinstance(container, dict) and change == "rename":
        container["x" + str(key)] = container.pop(key)
    else:
        del container[key]
    return data


def edit_text(content: bytes, draw: random.Random) -> bytes:
    """Edit the bytes of a file, whatever it holds."""
    lines = content.splitlines(keepends=True)
    place, line = draw.randrange(len(content) + 1), draw.randrange(len(lines) + 1)
    return draw.choice(
        [
            lambda: b"",
            lambda: b"\n \n",
            lambda: content[:place],
            lambda: content[:place] + draw.randbytes(20) + content[place:],
            lambda: draw.randbytes(200),
            lambda: b"\xff\xfe" + content,
            lambda: content + draw.choice(lines or [b"x"]),  # a row twice
            lambda: b"".join(draw.sample(lines, len(lines))),
            lambda: b"".join(lines[:line] + lines[line + 1 :]),
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 100_000,
            lambda: b"a: &a [x]\nb: [*a, *a]\n",
            lambda: b"null\n",
            lambda: b"[]\n",
            lambda: b"{}\n",
            lambda: b'"x"\n',
            lambda: content.replace(b"0", b"9" * 30),
            lambda: content.replace(b":", b": -", 3),
        ]
    )()


def edit(run: Run, name: str, draw: random.Random) -> None:
    """Edit a file of a run as a person or a program might."""
    file = draw.choice(sorted(run.folder.glob(name)))
    if name.startswith("checkpoints"):
        run.training.unlink()  # so that training goes on from the checkpoint
    content = file.read_bytes()
    kind = draw.choice(["value", "value", "value", "text", "missing"])
    if kind == "missing" and draw.random() < 0.3:
        file.unlink()
        if draw.random() < 0.3:
            file.mkdir()
    elif kind == "value" and file.suffix in (".json", ".jsonl", ".yaml"):
        if file.suffix == ".jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            if rows:
                place = draw.randrange(len(rows))
                rows[place] = another_value(rows[place], draw)
            text = "".join(json.dumps(row) + "\n" for row in rows)
        elif file.suffix == ".yaml":
            text = yaml.safe_dump(another_value(yaml.safe_load(content), draw))
        else:
            text = json.dumps(another_value(json.loads(content), draw))
        file.write_text(text, encoding="utf-8", errors="replace")
    else:
        file.write_bytes(edit_text(content, draw))


@pytest.fixture(scope="module")
def finished(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("runs") / "mine"
    config = settings(tiny_clip, "epochs=1")
    options: dict[str, Any] = {"labelled": str(videos), "control": True, "progress": silent}
    run = adapt(str(videos), actions, out, config, **options)
    with pytest.MonkeyPatch.context() as patch, open_job(run.folder, config, silent) as job:
        ask(job, 20, out / "ask.csv")
        add(run, ({"video": v.id, "kind": "name", "answer": v.label} for v in labelled(run)))
        patch.setattr("maxi.method.refinement.FEWEST", 4)
        refine_run(job)
    run.skipped.write_text('{"path": "a.mp4", "kind": "unreadable", "reason": "empty"}\n')
    return run


def labelled(run: Run) -> list[Video]:
    return read_jsonl(run.eval.manifest, Video)


def words_of(verb: str, run: Run, videos: Path, actions: Path) -> list[str]:
    """Return the command line of a verb."""
    if verb == "index":
        return ["index", str(videos), "--actions", str(actions), "-o", str(run.folder)]
    if verb == "classify":
        return ["classify", str(next(videos.rglob("*.mp4"))), "--model", str(run.folder)]
    first, *more = verb.split()
    if first == "bags":
        return ["bags", *more, str(run.folder), *(["clip 0"] if more == ["show"] else [])]
    return [first, str(run.folder), *more]


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_an_edited_file_gives_an_answer_or_one_sentence(
    name: str,
    finished: Run,
    videos: Path,
    actions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("maxi.method.refinement.FEWEST", 4)
    for seed in range(N_EDITS):
        draw = random.Random(f"{name} {seed}")
        run = Run(tmp_path / str(seed))
        shutil.copytree(finished.folder, run.folder)
        edit(run, name, draw)
        for verb in draw.sample(READERS[name], min(2, len(READERS[name]))):
            done = CliRunner().invoke(main, ["-q", *words_of(verb, run, videos, actions)])
            what = f"{name}, edit {seed}, maxi {verb}: {done.output[-500:]}"
            assert done.exit_code in (0, 1), what
            assert "unexpected error" not in done.output, what
            assert "Traceback" not in done.output, what
        shutil.rmtree(run.folder)
