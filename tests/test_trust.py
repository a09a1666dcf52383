"""`maxi.trust`: a run's folder that comes from others runs no code and asks no server that the user has not named."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from maxi import trust
from maxi.cli import main
from maxi.config import Config
from maxi.errors import MaxiError
from maxi.method.captioning import CAPTIONERS
from maxi.method.expansion import EXPANDERS
from maxi.models.load import BACKBONES
from maxi.settings import load_config, load_run

SERVER = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAXI_CACHE", str(tmp_path / "cache"))


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_kinds_of_our_own_are_no_code() -> None:
    assert {*BACKBONES, *EXPANDERS, *CAPTIONERS, "none"} == trust.KINDS
    for spec in ("shipped+wordnet", "file:a.jsonl + openai:gpt", "clip:openai/clip", "runs/x"):
        assert trust.named(load_config(None, [f"expander={spec}"]).model_dump()) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("chat: {base_url: 'http://x.example/v1'}", "asks the server http://x.example/v1"),
        ("expand: {expander: 'shipped+evil:run'}", r"runs the code shipped\+evil:run"),
        ("caption: {captioner: 'evil.twin:run'}", "runs the code evil.twin:run"),
        ("backbone: 'evil:run'", "runs the code evil:run"),
        ("bag: {agree: 'evil:run:folder'}", "runs the code evil:run:folder"),
        ("train: {objective: 'evil:run'}", "runs the code evil:run"),
    ],
)
def test_what_was_never_named_is_refused_until_it_is(tmp_path: Path, text: str, named: str) -> None:
    path = settings(tmp_path, text)
    with pytest.raises(MaxiError, match=named) as caught:
        load_run(path)
    words = shlex.split(str(caught.value).rpartition("name it once: ")[2])
    assert words[:4] == ["maxi", "report", str(tmp_path), "-s"]  # a verb that takes -s
    first = load_run(path, words[4:])
    assert load_run(path) == first  # it is remembered
    other = settings(tmp_path, text.replace("x.example", "y.example").replace("run", "runs"))
    with pytest.raises(MaxiError, match="you have not named on this machine yet"):
        load_run(other)


def test_a_password_is_not_remembered(tmp_path: Path) -> None:
    path = settings(tmp_path, "backbone: objects")
    load_run(path, ["chat.base_url=http://me:hush@x.example/v1"])
    assert "hush" not in (tmp_path / "cache" / "trusted.json").read_text()
    load_run(settings(tmp_path, "chat: {base_url: 'http://x.example/v1'}"))


def test_a_run_of_ones_own_is_asked_for_nothing(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "def describe(names, context):\n    print('it runs')\n    return []\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own_phrases.py").write_text(module)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "mine"), *sys.path])
    out = tmp_path / "run"
    line = ["-q", "index", str(videos), "--actions", str(actions), "-o", str(out)]
    line += ["--backbone", f"clip:{tiny_clip}"]
    line += ["-s", "expander=own_phrases:describe", "-s", f"chat.base_url={SERVER}"]
    assert CliRunner().invoke(main, line).exit_code == 0
    done = CliRunner().invoke(main, ["-q", "expand", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "it runs" in done.stdout
    # The same folder on the machine of another.
    monkeypatch.setenv("MAXI_CACHE", str(tmp_path / "other"))
    (out / "phrases.jsonl").unlink()
    (out / "phrases.jsonl.meta.json").unlink()
    for words in (["expand", str(out)], ["adapt", str(videos), "--resume", "-o", str(out)]):
        own = ["--actions", str(actions)] if words[0] == "adapt" else []
        refused = CliRunner().invoke(main, ["-q", *words, *own])
        assert refused.exit_code == 1
        assert "it runs" not in refused.stdout
        assert "own_phrases:describe, which you have not named" in refused.stderr
    assert CliRunner().invoke(main, ["-q", "match", str(out)]).exit_code == 1


def test_settings_of_python_are_the_users_own() -> None:
    assert Config.model_validate({"expand": {"expander": "mine:run"}}).expand.expander == "mine:run"
