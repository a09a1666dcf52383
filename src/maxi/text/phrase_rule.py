"""Make phrases by rule for names without written ones, by the kind of action and the kind of thing."""

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
# Each row holds verbs ("" stands for a noun alone), categories of the thing, and phrases: {o} is the
# thing under its article, {n} without one.
TEMPLATE_ROWS = (
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
# What can be said of nearly every action of a kind, with a thing and without one.
FIELD_TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "contact": (("handling {o}",), ()),
    "motion": (("moving {o}",), ("moving the body", "being in motion")),
}
YOGA = ("doing yoga", "stretching on a mat", "balancing in a yoga pose", "keeping the body still")
GYM = ("doing {n}", "working out", "training the muscles", "exercising in a gym", "practising {n}")
NOMINAL = ("doing {n}", "practising {n}", "performing {n}", "someone doing {n}", "people doing {n}")
THING = ("using {o}", "holding {o}", "working with {o}", "someone using {o}", "people using {o}")
PLAIN = ("someone {doing}", "a person {doing}", "people {doing}", "showing how to {base}")

MASS = words_of("bread meat clothing footwear furniture jewelry makeup medicine food cloth")
# Nobody "handles" or "moves" things of these categories, nor what these verbs have as their object.
NOT_HANDLED = PEOPLE | {"animal", "dog", "horse", "bird", "tree", "body part", "dance"}
NOT_HANDLING = PLACE_VERBS | words_of(
    "ride drive cross enter leave descend ascend mount pass follow chase walk scale visit"
)
# Categories that say too little to stand in for the thing.
UNHELPFUL = frozenset(("", "thing", "body part", "device", "dance", "acrobatics"))


def describe(name: str) -> list[str]:
    """Return phrases for a name, the best first; [] when it has neither a verb nor a known thing."""
    name_words = without_someone(split_words(without_alternatives(name)))
    words = name_words
    while len(words) > 1 and is_light(words):
        words = words[1:]
    if not words:
        return []
    action = take_apart(words)
    phrases = verb_phrases(action) if action else noun_phrases(words)
    if not phrases and lemma(name_words[0]) in LIGHT_VERBS:
        phrases = plain_phrases(lemma(name_words[0]), " ".join(name_words[1:]))
    phrases = phrases or thing_phrases(" ".join(words))
    if not phrases and verb_use(words[0], "t"):
        phrases = verb_phrases(split_phrase(words[0], words[1:]))
    return [phrase for phrase in phrases if not repeats(phrase, name_words)]


def without_someone(words: list[str]) -> list[str]:
    """Return `falling down` for `a person is falling down`, and `fall down` for `someone falls down`."""
    start = 1 if words[:1] and words[0] in ARTICLES else 0
    if len(words) < start + 2 or words[start] not in SUBJECTS:
        return words
    first, *rest = words[start + 1 :]
    if first in {"is", "are"} and rest:
        return rest
    return [first if first.endswith("ing") else lemma(first), *rest]


def is_light(words: Sequence[str]) -> bool:
    """Tell whether the first word says no more than that something is done: `doing`."""
    return lemma(words[0]) in LIGHT_VERBS and words[1] not in LINKS


def without_alternatives(name: str) -> str:
    """Keep one action of `opening bottle (not wine)`, `watching/looking at a book` and `a cup/glass`."""
    name = re.sub(r"\([^)]*\)", " ", name).strip()
    name = re.sub(r"^\S+(?:/| or )(?=\S)", "", name)
    return re.sub(r"(?<=\w)/\S+", "", name)


def repeats(text: str, name: Sequence[str]) -> bool:
    """Tell whether a text says a word twice which the name does not: `building a building`."""
    allowed = Counter(contents(name))
    return any(n > max(1, allowed[word]) for word, n in Counter(contents(text.split())).items())


def contents(words: Sequence[str]) -> list[str]:
    """Return the lemmas of the words that are more than articles and prepositions."""
    return [lemma(word) for word in words if word not in ARTICLES | LINKS]


def fill(templates: Sequence[str], thing: str, after: str = "") -> list[str]:
    """Fill the thing into templates, and let `after` ("in a gym") follow."""
    first, _, rest = thing.partition(" ")
    bare = rest if first in ARTICLES else thing
    return [join(template.format(o=thing, n=bare), after) for template in templates]


def thing_phrases(name: str) -> list[str]:
    """Return phrases for a name that is a known thing and nothing else, such as `laundry`."""
    return fill(THING, f"{article(name)} {name}") if known_noun(name.split())[0] == name else []


def by_kind(verb: str, category: str, thing: str, after: str = "") -> list[str]:
    """Return what one sees when this is done to a thing of this category; no verb: with the thing."""
    templates = [
        template
        for verbs, categories, texts in TEMPLATES
        if verb in verbs and category in categories
        for template in texts
    ]
    return fill(templates, thing, after)


def join(*parts: str) -> str:
    """Join those parts of a phrase that are not empty."""
    return " ".join(part for part in parts if part)


def plain_phrases(verb: str, rest: str) -> list[str]:
    """Return wordings that fit every action: `cut a cake`, `someone cutting a cake`, ..."""
    doing, base = join(gerund(verb), rest), join(verb, rest)
    return [base, *(text.format(base=base, doing=doing) for text in PLAIN)]


def verb_phrases(action: Action) -> list[str]:
    """Return phrases with synonyms, with kinds of things, with what one sees of such acts, then plain ones."""
    rest = join(action.before, action.thing, action.after)
    thing = "" if action.before else action.thing
    use = verb_use(action.verb, "t" if thing else "i")
    synonyms = [join(gerund(word), rest) for word in use.synonyms] if use else []
    phrases = [join(gerund(action.verb), rest), *synonyms]
    for noun in stand_ins(action):
        phrases.append(join(gerund(action.verb), action.before, noun, action.after))
    if thing:
        phrases += by_kind(action.verb, action.category, thing)
    with_thing, without = FIELD_TEMPLATES.get(use.field if use else "", ((), ()))
    if not action.thing:
        phrases += without
    elif thing and is_handled(action):
        phrases += fill(with_thing, thing)
    return [*phrases, *plain_phrases(action.verb, rest)]


def is_handled(action: Action) -> bool:
    """Tell whether the thing of an action is one that somebody handles or moves in it."""
    someone = action.thing in SUBJECTS
    return not someone and action.category not in NOT_HANDLED and action.verb not in NOT_HANDLING


def stand_ins(action: Action) -> list[str]:
    """Return other words for the thing in the same number: its synonyms, then its category."""
    plays = action.verb == "play" and not action.before
    if not action.head or (plays and action.category not in GAMES | INSTRUMENTS):  # squash
        return []
    last = action.thing.split()[-1]
    unhelpful = UNHELPFUL if plays else UNHELPFUL | GAMES  # one plays games, but shoots balls
    names = [*wordnet().nouns[action.head][1], *({action.category} - unhelpful)]
    return [number(name, many=singular(last) != last) for name in names]


def number(noun: str, *, many: bool) -> str:
    """Return a noun in the plural or with an article; mass nouns and plurals as they are."""
    from lemminflect import getInflection

    *rest, last = noun.split()
    if noun in MASS or singular(last) != last:
        return noun
    plural = str(getInflection(last, "NNS")[0])
    return join(*rest, plural) if many else f"{article(noun)} {noun}"


def noun_phrases(words: Sequence[str]) -> list[str]:
    """Return phrases for a name without a leading verb: a sport, a dance, an exercise, a pose."""
    main = core(words)
    thing = f"{article(main[0])} {' '.join(main)}"
    after = " ".join(words[len(main) :])
    if is_yoga(words):
        first = "holding {o}" if "pose" in words else "practising {n}"
        return fill([first, *YOGA], thing, after)
    category = known_noun(main)[1]
    act = verb_of(main[-1])
    vague = len(main) > 1 and category in {"", "thing"}
    if not act and (vague or main[-1] in ACT_NOUNS) and verb_use(main[-1], "i"):
        act = main[-1]
    phrases: list[str] = []
    if is_exercise(words):
        phrases += fill(GYM, thing, after)
    elif act:
        use = verb_use(act, "i")
        phrases += [gerund(act), *(gerund(word) for word in (use.synonyms[:1] if use else ()))]
        phrases += fill(NOMINAL, thing, after)
    phrases += by_kind("", category, thing, after)
    if category in GAMES and not act:
        phrases += fill(NOMINAL, thing, after)
    return phrases
