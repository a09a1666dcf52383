"""What a model thinks is no answer."""

from __future__ import annotations

import pytest

from maxi.text.reply_parser import parse, sentence


@pytest.mark.parametrize(
    "thought",
    [
        "<think>\nfirst idea\nsecond idea\n</think>\n",
        "<Thinking>first idea</Thinking>",
        "first idea\nsecond idea\n</think>\n",
    ],
)
def test_a_thought_is_left_out(thought: str) -> None:
    assert parse(thought + "clap hands\nwave arms", 5).phrases == ("clap hands", "wave arms")
    assert sentence(thought + "A man claps his hands.") == "A man claps his hands."


def test_a_thought_without_end_is_no_answer() -> None:
    assert parse("<think>\nfirst idea\nsecond idea", 5).kind == "nothing"
    assert sentence("<think> a man claps") == ""
