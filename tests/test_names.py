"""One form of a name, one rule of sameness, and lists as people write them."""

from __future__ import annotations

import pytest

from maxi.errors import MaxiError
from maxi.text.clean import filled
from maxi.text.names import distinct, listed, no_names, plain, same, words


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("push_up", "push up"),
        (" push \t up\u00a0", "push up"),
        ("ﾠpush\u200bup\ufeff", "ﾠpushup"),
        ("soft\u00adhyphen", "softhyphen"),
        ("cafe\u0301", "caf\u00e9"),
        ("HandstandPushUps", "HandstandPushUps"),
    ],
)
def test_the_form_in_which_a_name_is_kept(written: str, kept: str) -> None:
    assert plain(written) == kept


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("HandstandPushUps", "Handstand Push Ups"),
        ("YoYo", "Yo Yo"),
        ("UCFSports", "UCF Sports"),
        ("push up", "push up"),
        ("playing McGame", "playing McGame"),
        ("SURF", "SURF"),
    ],
)
def test_camel_case_becomes_words(name: str, split: str) -> None:
    assert words(name) == split


def test_what_is_one_name() -> None:
    for name in ("push up", "Push_Up", "PushUp", "push-up", "ＰＵＳＨ ＵＰ", "pu\u200bsh up"):
        assert same(name) == same("push up")
    assert same("cafe\u0301") == same("caf\u00e9")
    assert same("push up") != same("push ups")
    assert distinct(["waving", "push_up", "PushUp", "Waving"]) == ["PushUp", "Waving"]


@pytest.mark.parametrize(
    "text",
    [
        "push up\nwaving",
        "1 push up\n2 waving",
        "0\tpush up\n1\twaving",
        "push up 0\nwaving 1",
        "push up,1\nwaving,2",
        "- push up\n- waving",
        '"push up"\n- waving',
        "1. push up\n2) waving",
        "'push up',\n'waving'",
        '["push up", "waving"]',
        '{"0": "push up", "1": "waving"}',
        '{"push up": 0,\n "waving": 1}',
        '[{"id": 0, "name": "push up"}, {"id": 1, "name": "waving"}]',
        "# actions\n\npush up\nwaving\n",
        "---\nnames:\n  - push up\n  - waving",
    ],
)
def test_lists_as_people_write_them(text: str) -> None:
    lines = list(enumerate(text.split("\n"), 1))
    assert [plain(name) for _, name in listed(lines, "x.txt")] == ["push up", "waving"]


def test_names_that_begin_with_a_number_stay() -> None:
    for names in (["3 point shot", "waving"], ["100 metres", "200 metres"], ["5 km run"]):
        assert [name for _, name in listed(list(enumerate(names, 1)), "x.txt")] == names


@pytest.mark.parametrize("text", ["{\npush up\n}", "push up\n{\n", '{"a": ["x"]}', "push up\nkey:"])
def test_other_forms_are_refused_with_their_line(text: str) -> None:
    with pytest.raises(MaxiError, match=r"x\.txt:\d+: .* one name a line"):
        listed(list(enumerate(text.split("\n"), 1)), "x.txt")


def test_labels_that_name_no_action() -> None:
    assert no_names(["0", "1"]) == "are numbers, not names"
    assert no_names(["Train", "val"]) == "are names of splits, not of actions"
    assert no_names(["train", "waving"]) is None


def test_a_mark_in_a_name_or_text_stays_as_it_is() -> None:
    assert filled("{name}. {text}.", name="a {text}", text="b {name}") == "a {text}. b {name}."
