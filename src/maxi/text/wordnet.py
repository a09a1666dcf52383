"""The packaged slice of WordNet, and names of actions taken apart with its help."""

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
# With `on` and `in`, which elsewhere begin a place.
PARTICLE_VERBS = words_of("put try turn switch")
CONJUNCTIONS = words_of("and or")
# Words at which a thing ends.
LINKS = CONJUNCTIONS | words_of(
    """on in at with to into onto from through across over under up down off out around along
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
# Exercises only behind another word: `leg press`, not `press`.
EXERCISE_ENDINGS = words_of("clean curl dip extension fly jerk press raise row shrug snatch")
# In front of a noun these are no verbs: `still rings`, `table tennis shot`.
NOT_VERBS = words_of("back blind clean double dry free slow still table triple")
# In front of an exercise: `walking lunge`.
POSTURES = words_of("hang jump kneel lie sit stand walk")
ACT_NOUNS = words_of("exercise jump kick lift pull push roll run stand swing throw twist vault")
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
    """A verb with (or without) an object: kind of action, whether it is mostly a verb, synonyms."""

    field: str
    mostly: bool
    synonyms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordNet:
    """The slice: (verb, "t" | "i" for with and without an object); noun to (category, synonyms)."""

    verbs: dict[tuple[str, str], VerbUse]
    nouns: dict[str, tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Action:
    """A name taken apart: verb `jump`, before `on`, thing `a big trampoline`, head `trampoline`."""

    verb: str
    before: str
    thing: str
    after: str
    head: str
    category: str


@cache
def wordnet() -> WordNet:
    """The slice shipped with the package; scripts/build_wordnet.py describes its rows."""
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
    """The verb in this use or, failing that, in the other without its synonyms."""
    verbs = wordnet().verbs
    other = verbs.get((word, "i" if use == "t" else "t"))
    return verbs.get((word, use)) or (other and VerbUse(other.field, other.mostly, ()))


def known_noun(words: Sequence[str]) -> tuple[str, str]:
    """The longest known ending of the words, singular, and its category; ('', '') if none."""
    nouns = wordnet().nouns
    for start in range(len(words)):
        for last in (words[-1], singular(words[-1])):
            noun = " ".join([*words[start:-1], last])
            if noun in nouns:
                return noun, nouns[noun][0]
    return "", ""


@cache
def singular(noun: str) -> str:
    """The singular of a plural; also of `building`, which is no gerund here."""
    from lemminflect import getLemma

    return str((getLemma(noun, "NOUN") or [noun])[0])


def verb_of(word: str) -> str:
    """The verb of a gerund, or ''."""
    found = lemma(word)
    gerund = word.endswith("ing") and found != word and len(word) > 4 and word not in PRONOUNS
    return found if gerund else ""


def article(word: str) -> str:
    return "an" if re.match(r"(?!uni|use|uk|eu|one)[aeiou]", word) else "a"


def core(words: Sequence[str]) -> Sequence[str]:
    """The words before the first preposition: `push ups` of `push ups on a bench`."""
    ends = (i for i, word in enumerate(words) if i and word in LINKS - CONJUNCTIONS)
    return words[: next(ends, len(words))]


def is_yoga(words: Sequence[str]) -> bool:
    return "yoga" in words or words[-1] in {"pose", "asana"} or words[-1].endswith("asana")


def is_exercise(words: Sequence[str]) -> bool:
    for part in filter(None, (words, core(words))):
        last, joined = lemma(part[-1]), lemma("".join(part[-2:]))  # push ups: pushup
        if {last, joined} & EXERCISES or (len(part) > 1 and last in EXERCISE_ENDINGS):
            return True
    return False


def take_apart(words: Sequence[str]) -> Action | None:
    """Verb and thing of `cutting a cake`, `ride horse` or `dog walking`; None for other names."""
    words = without_subject(words)
    first, last = verb_of(words[0]), verb_of(words[-1])
    if first and not (first in POSTURES and is_exercise(words[1:])):
        return split_phrase(first, words[1:])
    if is_yoga(words) or is_exercise(words):
        return None
    if len(words) > 1 and last:
        category = known_noun(words[:-1])[1]
        named = last in PLACE_VERBS or category in GAMES
        return split_phrase(last, words[:-1]) if category and not named else None
    return split_phrase(words[0], words[1:]) if begins_with_verb(words) else None


def without_subject(words: Sequence[str]) -> Sequence[str]:
    """`waking up` of `baby waking up`; what stands in front of a last gerund may be its object."""
    use = verb_use(words[0], "t")
    if verb_of(words[0]) or (use and use.mostly):
        return words
    for i, word in enumerate(words):
        if word in LINKS or " ".join(words[i:]) in wordnet().nouns:
            break
        if i and verb_of(word):
            followed = i + 1 < len(words)
            return words[i:] if followed or known_noun(words[:i])[1] in PEOPLE else words
    return words


def begins_with_verb(words: Sequence[str]) -> bool:
    """Whether a name such as `brush hair` or `brush painting` asks to do something."""
    use = verb_use(words[0], "t")
    if not use or known_noun(core(words))[1] in {"dance", "martial art"}:
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
    """Find the thing in what follows a verb; a particle joins the verb."""
    before: list[str] = []
    if rest and (rest[0] in PARTICLES or (rest[0] in {"on", "in"} and verb in PARTICLE_VERBS)):
        phrasal = f"{verb} {rest[0]}"
        if (phrasal, "t") in wordnet().verbs or (len(rest) == 1 and verb_use(phrasal, "i")):
            verb, rest = phrasal, rest[1:]
    while rest and rest[0] in LINKS - CONJUNCTIONS:
        before, rest = [*before, rest[0]], rest[1:]
    end = next((i for i, word in enumerate(rest) if word in LINKS), len(rest))
    thing, after = list(rest[:end]), " ".join(rest[end:])
    head, category = known_noun(thing)
    counts = category in COUNTABLE and (verb != "play" or category in INSTRUMENTS)  # blackjack
    if counts and thing[0] not in ARTICLES | PRONOUNS and singular(thing[-1]) == thing[-1]:
        thing = [article(thing[0]), *thing]
    return Action(verb, " ".join(before), " ".join(thing), after, head, category)
