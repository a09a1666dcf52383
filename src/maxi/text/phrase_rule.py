"""The rule for names without written phrases: wordings by kind of action and kind of thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from maxi.text.phrasebook import (
    ARTICLES,
    LIGHT_VERBS,
    SUBJECTS,
    gerund,
    lemma,
    split_words,
    words_of,
)
from maxi.text.wordnet import (
    ACT_NOUNS,
    GAMES,
    INSTRUMENTS,
    LINKS,
    PEOPLE,
    PLACE_VERBS,
    Action,
    article,
    core,
    is_exercise,
    is_yoga,
    known_noun,
    singular,
    split_phrase,
    take_apart,
    verb_of,
    verb_use,
    wordnet,
)

RIDES = "vehicle|bicycle|horse|animal|boat|car"
FOODS = "food|dish|fruit|vegetable|meat|bread|cake|fish"
CLOTHES = "garment|clothing|footwear|hat|cloth"
# Verbs (none: a bare noun), categories of the thing, phrases: {o} the thing, {n} without article.
TEMPLATE_ROWS = (
    ("play|", "drum", "playing {o}|beating {o}|striking {o} with the hands|making music with {o}"),
    (
        "play|",
        "musical instrument",
        "playing {o}|making music with {o}|performing a tune on {o}|holding {o}|practising {o}",
    ),
    ("ride", RIDES, "travelling on {o}|sitting on {o}|moving along on {o}"),
    ("drive|steer", RIDES, "steering {o}|sitting at the wheel of {o}|travelling in {o}"),
    ("play|", "game|ball game", "playing {n}"),
    (
        "play|",
        "|".join(sorted(GAMES)),
        "taking part in {n}|competing in {n}|practising {n}|training for {n}",
    ),
    (
        "dance|do|",
        "dance",
        "dancing {n}|moving to music|taking dance steps|swaying and turning|stepping in rhythm",
    ),
    (
        "play|",
        "martial art",
        "practising {n}|training in {n}|doing {n} moves|going through {n} forms"
        "|training in a martial art",
    ),
    (
        "chop|cut|slice|dice|peel|grate|mince|shred|carve|core|trim|stone|crush|mash",
        FOODS,
        "preparing {o} in the kitchen|getting {o} ready to cook",
    ),
    (
        "fry|boil|bake|roast|grill|steam|simmer|poach|toast|stew|cook|barbecue|flip|stir|heat",
        FOODS,
        "cooking {o}|preparing {o} in the kitchen|heating {o}",
    ),
    (
        "eat|chew|bite|taste|munch|swallow|nibble|devour",
        FOODS,
        "bringing {o} to the mouth|chewing {o}|tasting {o}",
    ),
    (
        "drink|sip|gulp|taste|swallow",
        "drink|medicine",
        "bringing {o} to the lips|sipping {o}|swallowing {o}",
    ),
    ("wear|put on|try on|don", CLOTHES, "getting dressed|pulling on {o}|wearing {o}"),
    ("take off|remove", CLOTHES, "getting undressed|pulling off {o}"),
    (
        "",
        "gymnastic apparatus",
        "doing gymnastics on {o}|swinging on {o}|balancing on {o}|performing on {o}|training on {o}",
    ),
)
TEMPLATES = tuple(tuple(cell.split("|") for cell in row) for row in TEMPLATE_ROWS)
# What can be said of nearly every action of a kind, with an object and without.
FIELD_TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "change": (("working on {o}",), ()),
    "contact": (("handling {o}",), ()),
    "creation": (("making {o}", "working on {o}"), ()),
    "motion": (("moving {o}",), ("moving the body", "being in motion")),
}
YOGA = ("doing yoga", "stretching on a mat", "balancing in a yoga pose", "keeping the body still")
GYM = ("doing {n}", "working out", "training the muscles", "exercising in a gym", "practising {n}")
NOMINAL = ("doing {n}", "practising {n}", "performing {n}", "someone doing {n}", "people doing {n}")
THING = ("using {o}", "holding {o}", "working with {o}", "someone using {o}", "people using {o}")
PLAIN = ("someone {doing}", "a person {doing}", "people {doing}", "showing how to {base}")

STUNTS = frozenset(("exercise", "acrobatics"))
MASS = words_of("bread meat clothing footwear furniture jewelry makeup medicine food cloth")
# Not handled, moved, made or worked on, nor what such verbs have as their object.
NOT_HANDLED = PEOPLE | {"animal", "dog", "horse", "bird", "tree", "body part", "dance"}
NOT_HANDLING = PLACE_VERBS | words_of(
    "ride drive cross enter leave descend ascend mount pass follow chase walk scale visit"
)
# Categories that make a phrase no clearer when they stand in for the thing.
UNHELPFUL = frozenset(("", "thing", "body part", "device", "dance", "acrobatics"))


def describe(name: str) -> list[str]:
    """Phrases for a name, best first; [] when neither a verb nor a known thing is found in it."""
    whole = without_someone(split_words(without_alternatives(name)))
    words = whole
    while len(words) > 1 and is_light(words):
        words = words[1:]
    if not words:
        return []
    action = take_apart(words)
    found = verb_phrases(action) if action else noun_phrases(words)
    if not found and lemma(whole[0]) in LIGHT_VERBS:
        found = plain_phrases(lemma(whole[0]), " ".join(whole[1:]))
    found = found or thing_phrases(" ".join(words))
    if not found and verb_use(words[0], "t"):
        found = verb_phrases(split_phrase(words[0], words[1:]))
    return [text for text in found if not repeats(text, whole)]


def without_someone(words: list[str]) -> list[str]:
    """`falling down` of `a person is falling down`, and `fall down` of `someone falls down`."""
    start = 1 if words[:1] and words[0] in ARTICLES else 0
    if len(words) < start + 2 or words[start] not in SUBJECTS:
        return words
    first, *rest = words[start + 1 :]
    if first in {"is", "are"} and rest:
        return rest
    return [first if first.endswith("ing") else lemma(first), *rest]


def is_light(words: Sequence[str]) -> bool:
    """Whether the first word says no more than that something is done: `doing`, `a`."""
    return words[0] in ARTICLES or (lemma(words[0]) in LIGHT_VERBS and words[1] not in LINKS)


def without_alternatives(name: str) -> str:
    """`opening bottle (not wine)`, `watching/looking at a book`, `a cup/glass`: one action each."""
    name = re.sub(r"\([^)]*\)", " ", name).strip()
    name = re.sub(r"^\S+(?:/| or )(?=\S)", "", name)
    return re.sub(r"(?<=\w)/\S+", "", name)


def repeats(text: str, name: Sequence[str]) -> bool:
    """Whether a text has a word of content twice which the name has not: `building a building`."""
    allowed = Counter(contents(name))
    return any(n > max(1, allowed[word]) for word, n in Counter(contents(text.split())).items())


def contents(words: Sequence[str]) -> list[str]:
    bare = (re.sub("['’]s$", "", word) for word in words)
    return [lemma(word) for word in bare if word not in ARTICLES | LINKS]


def fill(templates: Sequence[str], thing: str, after: str = "") -> list[str]:
    """Templates with {o} the thing, under an article, and {n} without; `after` follows at the end.

    `doing judo in a gym`, but `doing judo moves`.
    """
    first, _, rest = thing.partition(" ")
    bare = rest if first in ARTICLES else thing
    return [
        join(text.format(o=thing, n=bare), after if text.endswith("}") else "")
        for text in templates
    ]


def thing_phrases(name: str) -> list[str]:
    noun, category = known_noun(name.split())
    used = noun == name and category not in NOT_HANDLED
    return fill(THING, f"{article(name)} {name}") if used else []


def by_kind(verb: str, category: str, thing: str, after: str = "") -> list[str]:
    """What one sees when this is done to (no verb: with) a thing of this category."""
    rows = (texts for verbs, kinds, texts in TEMPLATES if verb in verbs and category in kinds)
    return [text for texts in rows for text in fill(texts, thing, after)]


def join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def plain_phrases(verb: str, rest: str) -> list[str]:
    doing, base = join(gerund(verb), rest), join(verb, rest)
    return [base, *(text.format(base=base, doing=doing) for text in PLAIN)]


def verb_phrases(action: Action) -> list[str]:
    """Synonyms, kinds of things, what one sees of such acts, then plain wordings."""
    rest = join(action.before, action.thing, action.after)
    thing = "" if action.before else action.thing
    use = verb_use(action.verb, "t" if thing else "i")
    synonyms = [join(gerund(word), rest) for word in use.synonyms] if use else []
    found = [join(gerund(action.verb), rest), *synonyms[:2]]
    for noun in stand_ins(action):
        found.append(join(gerund(action.verb), action.before, noun, action.after))
    if thing:
        found += by_kind(action.verb, action.category, thing)
    with_thing, without = FIELD_TEMPLATES.get(use.field if use else "", ((), ()))
    if not action.thing:
        found += without
    elif thing and is_handled(action):
        found += fill(with_thing, thing)
    base, *plain = plain_phrases(action.verb, rest)
    return [*found, base, *synonyms[2:], *plain]


def is_handled(action: Action) -> bool:
    someone = action.thing in SUBJECTS
    return not someone and action.category not in NOT_HANDLED and action.verb not in NOT_HANDLING


def stand_ins(action: Action) -> list[str]:
    """Other words for the thing, with its article or number: its synonyms, then its category."""
    plays = action.verb == "play" and not action.before
    if not action.head or (plays and action.category not in GAMES | INSTRUMENTS):  # squash
        return []
    last = action.thing.split()[-1]
    dull = UNHELPFUL if plays else UNHELPFUL | GAMES  # one plays games, but shoots balls
    names = [*wordnet().nouns[action.head][1], *({action.category} - dull)]
    return [number(name, many=singular(last) != last) for name in names]


def number(noun: str, *, many: bool) -> str:
    """The noun in the plural or with an article; mass nouns as they are."""
    from lemminflect import getInflection

    *rest, last = noun.split()
    if noun in MASS or singular(last) != last:
        return noun
    plural = str((getInflection(last, "NNS") or [last + "s"])[0])
    return join(*rest, plural) if many else f"{article(noun)} {noun}"


def noun_phrases(words: Sequence[str]) -> list[str]:
    """Phrases for a name without a leading verb: a sport, a dance, an exercise, a pose."""
    main = core(words)
    thing = f"{article(main[0])} {' '.join(main)}"
    after = " ".join(words[len(main) :])
    if is_yoga(words):
        first = "holding {o}" if "pose" in words else "practising {n}"
        return fill([first, *YOGA], thing, after)
    category = known_noun(main)[1]
    last = verb_of(main[-1])
    vague = len(main) > 1 and category in {"", "thing"}
    if not last and (vague or main[-1] in ACT_NOUNS) and verb_use(main[-1], "i"):
        last = main[-1]
    found: list[str] = []
    if is_exercise(words):
        found += fill(GYM, thing, after)
    elif last:
        use = verb_use(last, "i")
        found += [gerund(last), *(gerund(word) for word in (use.synonyms[:1] if use else ()))]
        found += fill(NOMINAL, thing, after)
    found += by_kind("", category, thing, after)
    if category in GAMES | STUNTS and not last:
        found += fill(NOMINAL, thing, after)
    return found
