"""Action names from captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.text.verb_names import verb_names
from maxi.video.sources import read_captions

CAPTIONS = [
    "a man is riding a horse",
    "a woman rides a bike in a park",
    "a child is swimming in a pool",
    "two men are singing a song",
]


def test_the_commonest_verbs_come_first() -> None:
    assert verb_names(CAPTIONS, 2) == ["riding", "singing"]
    assert verb_names(CAPTIONS, 9, ["Riding"]) == ["singing", "swimming"]
    assert verb_names([], 3) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.txt", "\n".join(CAPTIONS)),
        ("captions.csv", "id,caption\n" + "\n".join(f"{i},{t}" for i, t in enumerate(CAPTIONS))),
        (
            "captions.jsonl",
            '{"video": "v", "captions": ["a man is riding a horse"], "source": "blip"}\n',
        ),
    ],
)
def test_captions_of_every_form_are_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_captions(tmp_path / name)[0] == CAPTIONS[0]


def test_names_and_verbs_are_printed(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    (tmp_path / "actions.txt").write_text("riding\njuggling\n")
    words = ["data", "verbs", str(tmp_path / "captions.txt"), "-n", "1"]
    done = CliRunner().invoke(main, [*words, "--actions", str(tmp_path / "actions.txt")])
    assert done.stdout.splitlines() == ["riding", "juggling", "singing"]
    wrong = CliRunner().invoke(main, ["data", "verbs", str(tmp_path / "none.txt")])
    assert wrong.exit_code == 1
    assert "does not exist" in wrong.stderr
    (tmp_path / "empty.txt").write_text("\n")
    wrong = CliRunner().invoke(main, ["data", "verbs", str(tmp_path / "empty.txt")])
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "empty.txt names no verb" in wrong.stderr
    (tmp_path / "other.csv").write_text("id,words\n1,riding\n")
    wrong = CliRunner().invoke(main, ["data", "verbs", str(tmp_path / "other.csv")])
    assert "no column `caption` or `name`" in wrong.stderr
