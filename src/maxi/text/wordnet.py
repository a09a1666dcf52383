"""Read the packaged slice of WordNet, and take names of actions apart with its help."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from maxi.text.phrasebook import ARTICLES, lemma, words_of

PRONOUNS = words_of("something someone somebody themselves")
PARTICLES = words_of("up down off out away back over")
# Verbs with which `on` and `in` are particles, too; elsewhere these begin a place.
PARTICLE_VERBS = words_of("put try turn switch")
# Words that end the name of a thing.
LINKS = words_of(
    """and or on in at with to into onto from through across over under up down off out around along
    behind between of for by against inside outside near next before after while using without
    about away towards until so but because not"""
)
# Verbs whose noun in front is a place or a manner, not an object: `ice climbing`, `cliff diving`.
PLACE_VERBS = words_of(
    """bowl box camp climb cycle dance dive fall fight fish float glide hike hop jump kick leap
    punch race row run sail shop sing skate ski sled slide snowboard spin stretch surf swim
    swing train tumble wrestle"""
)
EXERCISES = words_of(
    """burpee crunch deadlift kickback lunge plank pulldown pullup pushdown pushup situp squat
    stepup thruster"""
)
# Names of exercises only behind another word: `leg press`, not `press`.
EXERCISE_ENDINGS = words_of("clean curl dip extension fly jerk press raise row shrug snatch")
# Words that are no verbs in front of a noun: `still rings`, `table tennis shot`.
NOT_VERBS = words_of("back blind clean double dry free slow still table triple")
# Nouns that name an act when they end a name ("high jump"). A list, because a dictionary calls
# nearly every short noun a verb as well ("pommel horse", "catch ball").
ACT_NOUNS = words_of(
    """bump catch chop climb crawl curl cut dance dash dive dribble dunk exercise fight flip hit hug jerk
    jog jump kick kiss leap lift lunge march massage paddle pitch press pull punch push put putt race
    raise ride roll row run serve shake shave ski skip slam slap slide snap snatch spike spin sprint
    squat stand stretch strike stroke swim swing tackle throw thrust toss tumble twirl twist vault
    walk wash wrestle"""
)
GAMES = frozenset(("race", "sport", "game", "ball game"))
PEOPLE = frozenset(("person", "child"))
INSTRUMENTS = frozenset(("musical instrument", "drum"))
COUNTABLE = (
    words_of(
        """animal bag ball bed bicycle bird boat book bottle building car child computer dog garment
        hat horse machine person room seat table tool toy tree vehicle weapon"""
    )
    | INSTRUMENTS
    | {"gymnastic apparatus", "kitchen utensil"}
)


@dataclass(frozen=True, slots=True)
class VerbUse:
    """A verb used with an object, or without: its kind of action, whether it is mostly a verb, its synonyms."""

    field: str
    mostly: bool
    synonyms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordNet:
    """The verbs, by word and use ("t" with an object, "i" without), and the nouns with category and synonyms."""

    verbs: dict[tuple[str, str], VerbUse]
    nouns: dict[str, tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Action:
    """A name taken apart: `jumping on a big trampoline` has the verb `jump`, `on` before the thing, the thing
    `a big trampoline` and its head `trampoline`, whose category WordNet tells."""

    verb: str
    before: str
    thing: str
    after: str
    head: str
    category: str


@cache
def wordnet() -> WordNet:
    """Read the slice that the package ships; scripts/build_wordnet.py describes its rows."""
    verbs: dict[tuple[str, str], VerbUse] = {}
    nouns: dict[str, tuple[str, tuple[str, ...]]] = {}
    packed = (files("maxi") / "data" / "wordnet.tsv.gz").read_bytes()
    for line in gzip.decompress(packed).decode().splitlines():
        kind, word, *rest, last = line.split("\t")
        synonyms = tuple(last.split("|")) if last else ()
        if kind == "v":
            verbs[word, rest[0]] = VerbUse(rest[1], rest[2] == "v", synonyms)
        else:
            nouns[word] = (rest[0], synonyms)
    return WordNet(verbs, nouns)


def verb_use(word: str, use: str) -> VerbUse | None:
    """Return the verb in this use ("t" or "i"), else in the other use without its synonyms."""
    verbs = wordnet().verbs
    other = verbs.get((word, "i" if use == "t" else "t"))
    return verbs.get((word, use)) or (other and VerbUse(other.field, other.mostly, ()))


def known_noun(words: Sequence[str]) -> tuple[str, str]:
    """Return the longest ending of the words that is a known noun, and its category, else ("", "")."""
    nouns = wordnet().nouns
    for start in range(len(words)):
        for last in (words[-1], singular(words[-1])):
            noun = " ".join([*words[start:-1], last])
            if noun in nouns:
                return noun, nouns[noun][0]
    return "", ""


@cache
def singular(noun: str) -> str:
    """Return the singular of a noun; `building` is no gerund here."""
    from lemminflect import getLemma

    return str(getLemma(noun, "NOUN")[0])


def verb_of(word: str) -> str:
    """Return the verb of a gerund, or "" for another word."""
    verb = lemma(word)
    is_gerund = word.endswith("ing") and verb != word and word not in PRONOUNS
    return verb if is_gerund else ""


def article(word: str) -> str:
    """Return the article that fits the sound of a word."""
    return "an" if re.match(r"(?!uni|use|uk|eu|one)[aeiou]", word) else "a"


def core(words: Sequence[str]) -> Sequence[str]:
    """Return the words before the first preposition: `push ups` of `push ups on a bench`."""
    ends = (i for i, word in enumerate(words) if i and word in LINKS)
    return words[: next(ends, len(words))]


def is_yoga(words: Sequence[str]) -> bool:
    """Tell whether a name speaks of yoga or of one of its poses."""
    return "yoga" in words or words[-1] == "pose"


def is_exercise(words: Sequence[str]) -> bool:
    """Tell whether a name is that of an exercise in a gym, such as `push ups on a bench`."""
    words = core(words)
    last, joined = lemma(words[-1]), lemma("".join(words[-2:]))  # push ups: pushup
    return bool({last, joined} & EXERCISES) or (len(words) > 1 and last in EXERCISE_ENDINGS)


def take_apart(words: Sequence[str]) -> Action | None:
    """Find verb and thing of `cutting a cake`, `ride horse` or `dog walking`; None for other names."""
    words = without_subject(words)
    first, last = verb_of(words[0]), verb_of(words[-1])
    if first:
        return split_phrase(first, words[1:])
    if is_yoga(words) or is_exercise(words):
        return None
    if len(words) > 1 and last:
        category = known_noun(words[:-1])[1]
        named = last in PLACE_VERBS or category in GAMES
        return split_phrase(last, words[:-1]) if category and not named else None
    return split_phrase(words[0], words[1:]) if begins_with_verb(words) else None


def without_subject(words: Sequence[str]) -> Sequence[str]:
    """Return `waking up` for `baby waking up`; what stands before a gerund at the end may be its object."""
    use = verb_use(words[0], "t")
    if verb_of(words[0]) or (use and use.mostly):
        return words
    for i, word in enumerate(words):
        if i and verb_of(word):
            followed = i + 1 < len(words)
            return words[i:] if followed or known_noun(words[:i])[1] in PEOPLE else words
    return words


def begins_with_verb(words: Sequence[str]) -> bool:
    """Tell whether a name begins with a verb, as `brush hair` does and `brush painting` does not."""
    use = verb_use(words[0], "t")
    if not use:
        return False
    if len(words) == 1:
        return use.mostly
    if words[0] in NOT_VERBS:
        return False
    if words[1] in LINKS | ARTICLES | PRONOUNS:
        return True
    if words[-1] in ACT_NOUNS or " ".join(words) in wordnet().nouns:
        return False
    thing = known_noun(words)[1] not in GAMES and known_noun(words[1:])[1]
    return use.mostly or bool(thing)


def split_phrase(verb: str, rest: Sequence[str]) -> Action:
    """Find the thing in what follows a verb; a particle joins the verb ("put on")."""
    before: list[str] = []
    if rest and (rest[0] in PARTICLES or (rest[0] in {"on", "in"} and verb in PARTICLE_VERBS)):
        phrasal = f"{verb} {rest[0]}"
        if (phrasal, "t") in wordnet().verbs or (len(rest) == 1 and verb_use(phrasal, "i")):
            verb, rest = phrasal, rest[1:]
    while rest and rest[0] in LINKS:
        before, rest = [*before, rest[0]], rest[1:]
    end = next((i for i, word in enumerate(rest) if word in LINKS), len(rest))
    thing, after = list(rest[:end]), " ".join(rest[end:])
    head, category = known_noun(thing)
    is_counted = category in COUNTABLE and (verb != "play" or category in INSTRUMENTS)  # blackjack
    if is_counted and thing[0] not in ARTICLES | PRONOUNS and singular(thing[-1]) == thing[-1]:
        thing = [article(thing[0]), *thing]
    return Action(verb, " ".join(before), " ".join(thing), after, head, category)
