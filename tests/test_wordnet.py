"""The rule for other names: taken apart with WordNet, put into words by kind."""

from __future__ import annotations

import gzip
from collections import Counter
from importlib.resources import files

import pytest
from lemminflect import getLemma

from maxi.method.expansion import expand
from maxi.text.phrase_rule import describe
from maxi.text.wordnet import Action, take_apart

NAMES = """
doing gymnastics on a balance beam; gymnastics on the rings; balance beam; pommel horse in a gym
performing on the uneven bars; practising judo in a hall; samba on a stage; ballet with a partner
guitar with a band; drum solo on a stage; building a building; building a shed; tying a necktie
belly dancing; folk dancing; tap dancing on a table; ice dancing; line dancing in a barn
punching a person (sparring); hugging someone; someone pushing someone; following a person
showing a photo; showing something to a friend; toddler playing; woman washing dishes
air drumming; golf putting; playing blackjack; playing with a kitten; swinging a racket
opening a tin (not a bottle); holding a cup/glass; watching/looking at a film; hand washing socks
peeling or slicing carrots; pushing something so that it moves; moving a chair next to a table
rolling dough on a board; cutting a cake with a knife; baking bread in an oven; grilling sausages
push ups on a bench; bench pressing; walking lunges; doing the cobra pose; yoga in a park
riding a horse along a beach; driving a tractor through mud; high jump; ski jumping; ice fishing
taking off a hat; putting on shoes; drinking tea from a cup; mending a bicycle; laundry
doing laundry; hit something with a stick; kick it; pick up the pencil; running; swim
"""


def own_names() -> list[str]:
    return [name.strip() for line in NAMES.strip().split("\n") for name in line.split(";")]


def stems(text: str) -> Counter[str]:
    """Words of content in their shortest base form, whether verb or noun."""
    little = "a an the some to on in at with of for from into onto off out up along through so that"
    words = [word for word in text.lower().split() if word not in little.split()]
    forms = [(word, *getLemma(word, "VERB"), *getLemma(word, "NOUN")) for word in words]
    return Counter(min(form, key=lambda one: (len(one), one)) for form in forms)


def test_no_phrase_repeats_a_word_of_content() -> None:
    twice = [
        f"{name}: {text}"
        for name in own_names()
        for text in describe(name)
        for stem, count in stems(text).items()
        if count > max(1, stems(name)[stem])
    ]
    assert twice == []


def test_no_phrase_doubles_a_preposition_or_has_a_thing_that_begins_with_one() -> None:
    little = {"a", "an", "the", "on", "in", "with", "from", "of"}
    pairs = {
        f"{name}: {text}"
        for name in own_names()
        for text in describe(name)
        for one, other in zip(text.split(), text.split()[1:], strict=False)
        if one in little and other in little - {"a", "an", "the"}
    }
    assert pairs == set()


def test_every_one_of_these_names_has_phrases() -> None:
    assert [name for name in own_names() if len(describe(name)) < 4] == []


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("doing gymnastics on a balance beam", "taking part in gymnastics on a balance beam"),
        ("practising judo in a hall", "practising judo in a hall"),
        ("performing on the uneven bars", "performing on the uneven bars"),
        ("watching/looking at a film", "looking at a film"),
        ("opening a tin (not a bottle)", "opening a tin"),
        ("peeling or slicing carrots", "slicing carrots"),
        ("toddler playing", "playing"),
        ("hand washing socks", "washing socks"),
        ("someone pushing a cart", "pushing a cart"),
        ("a person doing yoga", "practising yoga"),
        ("golf putting", "putting"),
        ("hit something with a stick", "hitting something with a stick"),
        ("push ups on a bench", "doing push ups on a bench"),
        ("doing laundry", "do laundry"),
        ("laundry", "using a laundry"),
    ],
)
def test_the_best_phrase(name: str, first: str) -> None:
    assert describe(name)[0] == first


def test_a_name_taken_apart() -> None:
    assert take_apart(["jumping", "on", "a", "big", "trampoline", "with", "friends"]) == Action(
        "jump", "on", "a big trampoline", "with friends", "trampoline", "gymnastic apparatus"
    )
    assert take_apart(["putting", "on", "shoes"]) == Action(
        "put on", "", "shoes", "", "shoe", "footwear"
    )
    assert take_apart(["water", "polo"]) is None


@pytest.mark.parametrize("name", ["", "()", "/", "the", "a person", "person is", "打篮球", "😀"])
def test_names_without_words_have_no_phrases(name: str) -> None:
    assert describe(name) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mending a bicycle", ["repairing a bicycle", "fixing a bicycle"]),
        ("riding a tricycle", ["riding a vehicle", "travelling on a tricycle"]),
        ("ride_horse", ["riding a horse", "riding an animal"]),
        ("playing the tuba", ["playing a musical instrument", "making music with the tuba"]),
        ("chopping onions", ["cutting onions", "chopping vegetables"]),
        ("putting on a shoe", ["putting on footwear", "getting dressed"]),
        ("jumping on a trampoline", ["leaping on a trampoline"]),
        ("falling down stairs", ["fall down stairs"]),
        ("dog walking", ["walking a dog"]),
        ("rope skipping", ["skipping rope"]),
        ("ice climbing", ["climbing", "doing ice climbing"]),
        ("HighJump", ["jumping", "leaping", "doing high jump"]),
        ("crane pose", ["holding a crane pose", "doing yoga"]),
        ("leg press", ["doing leg press", "working out"]),
        ("samba", ["dancing samba", "moving to music"]),
        ("tai chi", ["practising tai chi"]),
        ("water polo", ["playing water polo"]),
        ("pommel horse", ["swinging on a pommel horse"]),
        ("cutting a cake with a knife", ["cut a cake with a knife"]),
        ("someone falls down", ["falling down"]),
        ("kitesurfing", ["kitesurf", "someone kitesurfing"]),
    ],
)
def test_the_rule(name: str, expected: list[str]) -> None:
    found = [text for row in expand([name], "wordnet") for text in row.texts]
    assert len(found) == 5
    assert set(expected) <= set(found)


@pytest.mark.parametrize(
    ("name", "silly"),
    [
        ("beating eggs", "defeating eggs"),
        ("stirring soup", "budging soup"),
        ("playing squash", "playing a vegetable"),
        ("washing a dog", "swearing out a dog"),
        ("folding napkins", "folding diapers"),
        ("hugging a friend", "handling a friend"),
        ("climbing a ladder", "moving a ladder"),
        ("clean", "exercising in a gym"),
        ("samba", "sambaing"),
    ],
)
def test_the_rule_avoids_senses_one_does_not_mean(name: str, silly: str) -> None:
    assert silly not in describe(name)


def test_the_slice_is_small_reproducible_and_licensed() -> None:
    data = files("maxi") / "data"
    packed = (data / "wordnet.tsv.gz").read_bytes()
    assert len(packed) < 1_000_000
    assert packed[4:8] == bytes(4)  # no time in the header
    lines = gzip.decompress(packed).decode("ascii").splitlines()
    assert lines == sorted(lines)
    assert {len(line.split("\t")) for line in lines if line[0] == "v"} == {6}
    assert {len(line.split("\t")) for line in lines if line[0] == "n"} == {4}
    licence = (data / "WORDNET-LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence
