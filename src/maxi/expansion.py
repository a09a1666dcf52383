"""Names of actions to phrases that describe them, once per dictionary entry."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError, choose
from maxi.records import Phrases
from maxi.text import clean

log = logging.getLogger(__name__)

MAX_WORDS = 20  # a longer text is a paragraph, not a phrase


@dataclass(frozen=True, slots=True)
class Context:
    """What an expander may need beyond the names."""

    n_phrases: int = 5


Expander = Callable[[Sequence[str], Context], list[Phrases]]


def expand(
    labels: Sequence[str], expander: str = "shipped+wordnet", n_phrases: int = 5
) -> list[Phrases]:
    """Describe each name by up to `n_phrases` phrases (section 3.2); sources in turn fill gaps.

    One row per (name, source), in the order of `labels`; a name that no source knows has one row
    without texts, of source `none`. Raises MaxiError for an unknown source and an unreadable file.
    """
    context = Context(n_phrases=n_phrases)
    labels = list(dict.fromkeys(labels))
    taken: dict[str, list[str]] = {label: [] for label in labels}
    rows: dict[str, list[Phrases]] = {label: [] for label in labels}
    for source, ask in parse(expander):
        missing = [label for label in labels if len(taken[label]) < n_phrases]
        for row in ask(missing, context):
            if row.label not in taken:
                continue
            texts = usable(row.label, row.texts, taken[row.label], n_phrases)
            if texts:
                taken[row.label] += texts
                rows[row.label].append(Phrases(row.label, tuple(texts), source))
    unknown = [label for label in labels if not rows[label]]
    if unknown:
        log.warning(
            "%d of %d names have no phrases: their bags hold the name alone (%s)",
            len(unknown),
            len(labels),
            ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else ""),
        )
    return [row for label in labels for row in rows[label] or [Phrases(label, (), "none")]]


def usable(label: str, texts: Iterable[str], taken: Sequence[str], n_phrases: int) -> list[str]:
    """Cleaned texts that are new, short and not the name itself; at most what is missing."""
    names = {clean(label), " ".join(split_words(label))}
    found: list[str] = []
    for text in map(clean, texts):
        if not text or len(text.split()) > MAX_WORDS or text in names:
            continue
        if text not in taken and text not in found:
            found.append(text)
    return found[: n_phrases - len(taken)]


def parse(expander: str) -> list[tuple[str, Expander]]:
    """Sources of `NAME[:ARG]+...` and the marks of their rows; known names win over modules."""
    parts: list[str] = []
    for part in expander.split("+"):
        # A `+` inside a path is not a separator.
        if parts and parts[-1].startswith("file:") and part.partition(":")[0] not in EXPANDERS:
            parts[-1] += "+" + part
        else:
            parts.append(part)
    sources: list[tuple[str, Expander]] = []
    for part in parts:
        name, _, argument = part.strip().partition(":")
        if name in EXPANDERS:
            source = f"{name}:{Path(argument).name}" if argument else name
            sources.append((source, EXPANDERS[name](argument)))
        else:
            outside: Any = choose(EXPANDERS, part.strip(), "expander")
            sources.append((part.strip(), outside))
    return sources


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names of actions, and when two of them are the same action.

ARTICLES = words_of("a an the some my your his her their our its one's")
LIGHT_VERBS = words_of("do perform practise practice")
SUBJECTS = words_of("someone person people")


def split_words(name: str) -> list[str]:
    """Words of a name in lower case: `HandstandPushUps`, `push_up` and `push-up` are split."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", name.lower())


@cache
def lemma(word: str) -> str:
    """Base form of a gerund, singular of a plural; other words as they are."""
    from lemminflect import getLemma

    found = getLemma(word, "VERB" if word.endswith("ing") else "NOUN")
    return str(found[0]) if found else word


@cache
def gerund(verb: str) -> str:
    """-ing form of a verb or of the first word of a phrasal verb."""
    from lemminflect import getInflection

    first, *rest = verb.split()
    found = getInflection(first, "VBG")
    return " ".join([str(found[0]) if found else first + "ing", *rest])


def content_lemmas(name: str) -> list[str]:
    """Lemmas without articles and, where more remains, without `do` and a leading `person`."""
    words = [word for word in split_words(name) if word not in ARTICLES]
    if len(words) > 1 and words[0] in SUBJECTS:
        words = words[1:]
    lemmas = [lemma(word) for word in words]
    return [word for word in lemmas if word not in LIGHT_VERBS] or lemmas


def canonical_keys(name: str) -> tuple[str, str, str]:
    """Three keys, strictest first: letters only, words in any order, and these without `play`."""
    lemmas = content_lemmas(name)
    loose = [word for word in lemmas if word != "play"] or lemmas
    return "".join(lemmas), " ".join(sorted(lemmas)), " ".join(sorted(loose))


class Phrasebook:
    """Rows (name, aliases, texts), found by name, then alias, then unambiguous canonical form."""

    def __init__(self, rows: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        self.labels: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.keys: tuple[dict[str, set[str]], ...] = ({}, {}, {})
        for label, aliases, texts in rows:
            here = label.casefold().strip()
            self.labels.setdefault(here, []).extend(texts)
            for name in (label, *aliases):
                self.aliases.setdefault(name.casefold().strip(), here)
                for table, key in zip(self.keys, canonical_keys(name), strict=True):
                    table.setdefault(key, set()).add(here)

    def find(self, name: str) -> list[str]:
        """Texts of the row that means this name, or []."""
        exact = name.casefold().strip()
        if exact in self.labels:
            return self.labels[exact]
        if exact in self.aliases:
            return self.labels[self.aliases[exact]]
        for table, key in zip(self.keys, canonical_keys(name), strict=True):
            rows = table.get(key, set()) if key else set()
            if len(rows) == 1:
                return self.labels[next(iter(rows))]
        return []


def from_book(book: Callable[[], Phrasebook], source: str) -> Expander:
    """An expander that looks names up in a phrasebook, which is read at the first use."""

    def ask(labels: Sequence[str], context: Context) -> list[Phrases]:
        found = book()
        return [Phrases(label, tuple(found.find(label)), source) for label in labels]

    return ask


# Sources: phrases written for this package, and the user's own file.


@lru_cache(maxsize=1)
def shipped_book() -> Phrasebook:
    text = (files("maxi") / "data" / "phrases.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return Phrasebook((row["label"], row.get("aliases", ()), row["texts"]) for row in rows)


def read_book(path: Path) -> Phrasebook:
    """Read {"label", "texts"} rows (.jsonl), an object of lists (.json) or `name<TAB>phrase` lines.

    Raises MaxiError with the line that is not one of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MaxiError(
            f"{path}: cannot be read as UTF-8 text ({error}); name an existing file"
        ) from error
    if path.suffix.lower() == ".json":
        return Phrasebook(_object_rows(path, text))
    read = _json_row if path.suffix.lower() == ".jsonl" else _tab_row
    lines = enumerate(text.splitlines(), 1)
    return Phrasebook(read(f"{path}:{number}", line) for number, line in lines if line.strip())


def _row(where: str, label: Any, aliases: Any, texts: Any) -> tuple[str, list[str], list[str]]:
    lists = (aliases, texts)
    if not isinstance(label, str) or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists
    ):
        raise MaxiError(
            f'{where}: expected a name and a list of phrases: {{"label": "...", "texts": ["..."]}}'
        )
    return label, aliases, texts


def _object_rows(path: Path, text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MaxiError(
            f"{path}: not valid JSON ({error}); rows one a line belong in a .jsonl file"
        ) from error
    if not isinstance(data, dict):
        raise MaxiError(
            f"{path}: expected one JSON object, name to phrases; rows belong in a .jsonl file"
        )
    for label, texts in data.items():
        yield _row(f"{path}: {label!r}", label, [], texts)


def _json_row(where: str, line: str) -> tuple[str, list[str], list[str]]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise MaxiError(f"{where}: not valid JSON ({error}); mend or remove the line") from error
    if not isinstance(data, dict):
        raise MaxiError(
            f'{where}: expected a row {{"label": "...", "texts": ["..."]}}; mend or remove the line'
        )
    return _row(where, data.get("label"), data.get("aliases", []), data.get("texts"))


def _tab_row(where: str, line: str) -> tuple[str, list[str], list[str]]:
    label, tab, phrase = line.partition("\t")
    if not tab:
        raise MaxiError(
            f"{where}: expected `name<TAB>phrase`; put a tab between the name and its phrase"
        )
    return label, [], [phrase]


# The rule for other names: frequent synonyms of the verb and kinds of things, out of WordNet.


@dataclass(frozen=True, slots=True)
class VerbUse:
    """A verb with (or without) an object: kind of action, whether it is mostly a verb, synonyms."""

    field: str
    mostly: bool
    synonyms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordNet:
    """The packaged slice: (verb, "t" | "i") -> use; noun -> (category, synonyms)."""

    verbs: Mapping[tuple[str, str], VerbUse]
    nouns: Mapping[str, tuple[str, tuple[str, ...]]]

    def verb(self, word: str, use: str) -> VerbUse | None:
        """The verb in this use or, failing that, in the other without its synonyms."""
        other = self.verbs.get((word, "i" if use == "t" else "t"))
        return self.verbs.get((word, use)) or (other and VerbUse(other.field, other.mostly, ()))

    def is_verb(self, word: str) -> bool:
        return (word, "t") in self.verbs or (word, "i") in self.verbs


@lru_cache(maxsize=1)
def wordnet_slice() -> WordNet:
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


@dataclass(frozen=True, slots=True)
class Action:
    """A name taken apart: verb `jump`, before `on`, thing `a big trampoline`, head `trampoline`."""

    verb: str
    before: str
    thing: str
    after: str
    head: str
    category: str


PARTICLES = words_of("up down off out away back over")
# With `on` and `in`, which elsewhere begin a place.
PARTICLE_VERBS = words_of("put try turn switch")
PREPOSITIONS = words_of(
    """on in at with to into onto from through across over under up down off out around along
    behind between of for by against inside outside near before after while using without about
    towards and or"""
)
# Verbs whose noun in front is a place or a manner, not an object: `ice climbing`, `cliff diving`.
PLACE_VERBS = words_of(
    """bowl box camp climb cycle dance dive fall fight fish float glide hike hop jump kick leap
    punch race row run sail shop sing skate ski sled slide snowboard spin stretch surf swim
    swing train tumble wrestle"""
)
EXERCISES = words_of(
    """burpee crunch deadlift kickback lunge plank pulldown pullup pushup situp squat stepup
    thruster"""
)
# Exercises only behind another word: `leg press`, not `press`.
EXERCISE_ENDINGS = words_of("clean curl dip extension fly jerk press raise row shrug snatch")
# In front of a noun these are no verbs: `still rings`, `table tennis shot`.
NOT_VERBS = words_of("back blind clean double dry free slow still table triple")
# In front of an exercise: `walking lunge`.
POSTURES = words_of("hang jump kneel lie sit stand walk")
ACT_NOUNS = words_of("exercise jump kick lift pull push put roll run swing throw twist vault")
MASS = words_of("""bread meat clothing footwear furniture jewelry makeup medicine food cloth""")
COUNTABLE = words_of(
    """animal bag ball bed bicycle bird boat book bottle building car child computer dog drum
    garment hat horse machine person room seat table tool toy tree vehicle weapon"""
) | {
    "musical instrument",
    "gymnastic apparatus",
    "kitchen utensil",
}
FOODS = words_of("food dish fruit vegetable meat bread cake fish")
CLOTHES = words_of("garment clothing footwear hat cloth")
RIDES = words_of("vehicle bicycle horse animal boat car")
STUNTS = frozenset(("exercise", "acrobatics"))
GAMES = frozenset(("race", "sport", "game", "ball game"))

# Verbs ("" for a bare noun), categories of the thing, phrases: {o} the thing, {n} without article.
TEMPLATES: tuple[tuple[frozenset[str], frozenset[str], tuple[str, ...]], ...] = (
    (
        frozenset(("play", "")),
        frozenset(("drum",)),
        ("playing {o}", "beating {o}", "striking {o} with the hands", "making music with {o}"),
    ),
    (
        frozenset(("play", "")),
        frozenset(("musical instrument",)),
        (
            "playing {o}",
            "making music with {o}",
            "performing a tune on {o}",
            "holding {o}",
            "practising {o}",
        ),
    ),
    (frozenset(("ride",)), RIDES, ("travelling on {o}", "sitting on {o}", "moving along on {o}")),
    (
        frozenset(("drive", "steer")),
        RIDES,
        ("steering {o}", "sitting at the wheel of {o}", "travelling in {o}"),
    ),
    (frozenset(("play", "")), frozenset(("game", "ball game")), ("playing {n}",)),
    (
        frozenset(("play", "")),
        GAMES,
        ("taking part in {n}", "competing in {n}", "practising {n}", "training for {n}"),
    ),
    (
        frozenset(("dance", "do", "")),
        frozenset(("dance",)),
        (
            "dancing {o}",
            "moving to music",
            "taking dance steps",
            "swaying and turning",
            "stepping in rhythm",
        ),
    ),
    (
        frozenset(("play", "")),
        frozenset(("martial art",)),
        (
            "practising {n}",
            "training in {n}",
            "doing {n} moves",
            "going through {n} forms",
            "training in a martial art",
        ),
    ),
    (
        words_of("chop cut slice dice peel grate mince shred carve core trim stone crush mash"),
        FOODS,
        ("preparing {o} in the kitchen", "getting {o} ready to cook"),
    ),
    (
        words_of(
            "fry boil bake roast grill steam simmer poach toast stew cook barbecue flip stir heat"
        ),
        FOODS,
        ("cooking {o}", "preparing {o} in the kitchen", "heating {o}"),
    ),
    (
        words_of("eat chew bite taste munch swallow nibble devour"),
        FOODS,
        ("bringing {o} to the mouth", "chewing {o}", "tasting {o}"),
    ),
    (
        words_of("drink sip gulp taste swallow"),
        frozenset(("drink", "medicine")),
        ("bringing {o} to the lips", "sipping {o}", "swallowing {o}"),
    ),
    (
        frozenset(("wear", "put on", "try on", "don")),
        CLOTHES,
        ("getting dressed", "pulling on {o}", "wearing {o}"),
    ),
    (
        frozenset(("",)),
        frozenset(("gymnastic apparatus",)),
        (
            "doing gymnastics on {o}",
            "swinging on {o}",
            "balancing on {o}",
            "performing on {o}",
            "training on {o}",
        ),
    ),
    (frozenset(("take off", "remove")), CLOTHES, ("getting undressed", "pulling off {o}")),
)
# What can be said of nearly every action of a kind, with an object and without.
FIELD_TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "change": (("working on {o}",), ()),
    "contact": (("handling {o}",), ()),
    "creation": (("making {o}", "working on {o}"), ()),
    "motion": (("moving {o}",), ("moving the body", "being in motion")),
}
# Not handled, moved, made or worked on.
NOT_HANDLED = frozenset(
    ["person", "child", "animal", "dog", "horse", "bird", "tree", "body part", "dance"]
)
# Verbs of motion along a thing, which does not move.
ALONG = words_of(
    "climb ride drive cross enter leave descend ascend mount pass follow chase walk scale"
)
YOGA = (
    "holding {a}",
    "doing yoga",
    "stretching on a mat",
    "balancing in a yoga pose",
    "keeping the body still",
)
GYM = ("doing {n}", "working out", "training the muscles", "exercising in a gym", "practising {n}")
NOMINAL = ("doing {n}", "practising {n}", "performing {n}", "someone doing {n}", "people doing {n}")
THING = ("using {a}", "holding {a}", "working with {a}", "someone using {a}", "people using {a}")
PLAIN = ("someone {doing}", "a person {doing}", "people {doing}", "showing how to {base}")
# Categories that make a phrase no clearer when they stand in for the thing.
UNHELPFUL = frozenset(("", "thing", "body part", "device", "dance", "acrobatics"))


def describe(name: str) -> list[str]:
    """Phrases for a name, best first; [] when neither a verb nor a known thing is found in it."""
    words = split_words(name)
    while len(words) > 1 and (words[0] in ARTICLES or lemma(words[0]) in LIGHT_VERBS):
        words = words[1:]
    if len(words) > 1 and words[0] in SUBJECTS:
        words = words[2:] if words[1] in {"is", "are"} else words[1:]
        words = [word if word.endswith("ing") else lemma(word) for word in words[:1]] + words[1:]
    if not words:
        return []
    net = wordnet_slice()
    action = take_apart(words, net)
    found = [] if action else noun_phrases(words, net)
    if not found and not action and net.is_verb(words[0]):
        action = split_phrase(words[0], words[1:], net)
    return verb_phrases(action, net) if action else found


def take_apart(words: Sequence[str], net: WordNet) -> Action | None:
    """Verb and thing of `cutting a cake`, `ride horse` or `dog walking`; None for other names."""
    first, last = verb_of(words[0]), verb_of(words[-1])
    if first and not (first in POSTURES and is_exercise(words[1:])):
        return split_phrase(first, words[1:], net)
    if is_yoga(words) or is_exercise(words):
        return None
    if len(words) > 1 and last:
        if last in PLACE_VERBS or not known_noun(words[:-1], net)[1]:
            return None
        return split_phrase(last, words[:-1], net)
    use = net.verb(words[0], "t")
    if not use:
        return None
    if known_noun(words, net)[1] in {"dance", "martial art"}:
        return None
    if len(words) > 1 and (words[0] in NOT_VERBS or words[-1] in ACT_NOUNS):
        return None
    compound = len(words) > 1 and " ".join(words) in net.nouns
    if use.mostly and not compound:
        return split_phrase(words[0], words[1:], net)
    named = compound or known_noun(words, net)[1] in GAMES
    concrete = len(words) > 1 and known_noun(words[1:], net)[1]
    return split_phrase(words[0], words[1:], net) if concrete and not named else None


def verb_of(word: str) -> str:
    """The verb of a gerund, or ''."""
    found = lemma(word)
    return found if word.endswith("ing") and found != word and len(word) > 4 else ""


def known_noun(words: Sequence[str], net: WordNet) -> tuple[str, str]:
    """The longest known ending of the words, singular, and its category; ('', '') if none."""
    for start in range(len(words)):
        for last in (words[-1], lemma(words[-1])):
            noun = " ".join([*words[start:-1], last])
            if noun in net.nouns:
                return noun, net.nouns[noun][0]
    return "", ""


def split_phrase(verb: str, rest: Sequence[str], net: WordNet) -> Action:
    """Find the thing in what follows a verb; a particle joins the verb."""
    before: list[str] = []
    if rest and (rest[0] in PARTICLES or (rest[0] in {"on", "in"} and verb in PARTICLE_VERBS)):
        phrasal = f"{verb} {rest[0]}"
        if (phrasal, "t") in net.verbs or (len(rest) == 1 and net.is_verb(phrasal)):
            verb, rest = phrasal, rest[1:]
    while rest and rest[0] in PREPOSITIONS - {"and", "or"}:
        before, rest = [*before, rest[0]], rest[1:]
    end = next((i for i, word in enumerate(rest) if word in PREPOSITIONS), len(rest))
    thing, after = list(rest[:end]), " ".join(rest[end:])
    head, category = known_noun(thing, net) if thing else ("", "")
    bare = thing[1:] if thing and thing[0] in ARTICLES else thing
    if bare == thing and bare and category in COUNTABLE and lemma(bare[-1]) == bare[-1]:
        thing = [article(bare[0]), *thing]
    return Action(verb, " ".join(before), " ".join(thing), after, head, category)


def article(word: str) -> str:
    return "an" if re.match(r"(?!uni|use|uk|eu|one)[aeiou]", word) else "a"


def plural(noun: str) -> str:
    from lemminflect import getInflection

    *rest, last = noun.split()
    return " ".join([*rest, str((getInflection(last, "NNS") or [last + "s"])[0])])


def join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def verb_phrases(action: Action, net: WordNet) -> list[str]:
    """Synonyms, kinds of things, what one sees of such acts, then plain wordings."""
    rest = join(action.before, action.thing, action.after)
    doing, base = join(gerund(action.verb), rest), join(action.verb, rest)
    use = net.verb(action.verb, "t" if action.thing and not action.before else "i")
    synonyms = [join(gerund(word), rest) for word in use.synonyms] if use else []
    found = [doing, *synonyms[:2]]
    for noun in stand_ins(action, net):
        found.append(join(gerund(action.verb), action.before, noun, action.after))
    bare = without_article(action.thing)
    if action.thing and not action.before:
        for verbs, categories, templates in TEMPLATES:
            if action.verb in verbs and action.category in categories:
                found += [text.format(o=action.thing, n=bare) for text in templates]
    if use:
        with_thing, without = FIELD_TEMPLATES.get(use.field, ((), ()))
        if not action.thing:
            found += without
        elif not action.before and is_handled(action):
            found += [text.format(o=action.thing) for text in with_thing]
    plain = [text.format(base=base, doing=doing) for text in PLAIN]
    return [*found, base, *synonyms[2:], *plain]


def is_handled(action: Action) -> bool:
    someone = action.thing in SUBJECTS
    return not someone and action.category not in NOT_HANDLED and action.verb not in ALONG


def stand_ins(action: Action, net: WordNet) -> list[str]:
    """Other words for the thing, with its article or number: its synonyms, then its category."""
    if not action.head or (action.verb == "play" and action.category in FOODS):  # squash
        return []
    last = action.thing.split()[-1]
    many = lemma(last) != last
    names = [*net.nouns[action.head][1], *({action.category} - UNHELPFUL - {action.verb})]
    return [number(name, many=many) for name in names]


def number(noun: str, *, many: bool) -> str:
    """The noun in the plural or with an article; mass nouns as they are."""
    if noun in MASS or lemma(noun) != noun:
        return noun
    return plural(noun) if many else f"{article(noun)} {noun}"


def without_article(thing: str) -> str:
    first, _, rest = thing.partition(" ")
    return rest if first in ARTICLES else thing


def is_yoga(words: Sequence[str]) -> bool:
    return "yoga" in words or words[-1] in {"pose", "asana"} or words[-1].endswith("asana")


def is_exercise(words: Sequence[str]) -> bool:
    if not words:
        return False
    last, joined = lemma(words[-1]), lemma("".join(words[-2:]))  # push ups: pushup
    return last in EXERCISES or joined in EXERCISES or (len(words) > 1 and last in EXERCISE_ENDINGS)


def noun_phrases(words: Sequence[str], net: WordNet) -> list[str]:
    """Phrases for a name without a leading verb: a sport, a dance, an exercise, a pose, a thing."""
    name = " ".join(words)
    head, category = known_noun(words, net)
    named = f"{article(name)} {name}"
    found: list[str] = []
    if is_yoga(words):
        return [text.format(a=named if words[-1] == "pose" else name, n=name) for text in YOGA]
    last = verb_of(words[-1]) or (
        words[-1] if words[-1] in ACT_NOUNS and net.is_verb(words[-1]) else ""
    )
    if is_exercise(words):
        found += [text.format(n=name) for text in GYM]
    elif last or (category in {"", "thing"} and net.is_verb(words[-1]) and len(words) > 1):
        last = last or words[-1]
        use = net.verb(last, "i")
        found += [gerund(last), *(gerund(word) for word in (use.synonyms[:1] if use else ()))]
        found += [text.format(n=name) for text in NOMINAL]
    for verbs, categories, templates in TEMPLATES:
        if "" in verbs and category in categories:
            found += [
                text.format(o=name if category == "dance" else named, n=name) for text in templates
            ]
    if category in GAMES | STUNTS and not last:
        found += [text.format(n=name) for text in NOMINAL]
    if not found and head == name and category not in NOT_HANDLED:
        found += [text.format(a=named) for text in THING]
    return found


def from_wordnet(labels: Sequence[str], context: Context) -> list[Phrases]:
    return [Phrases(label, tuple(describe(label)), "wordnet") for label in labels]


def _without_argument(name: str, expander: Expander) -> Callable[[str], Expander]:
    def make(argument: str) -> Expander:
        if argument:
            raise MaxiError(
                f"expander '{name}:{argument}': {name!r} takes no argument; write {name!r}"
            )
        return expander

    return make


def _from_file(argument: str) -> Expander:
    if not argument:
        raise MaxiError("expander 'file' needs a path; write file:PATH")
    return from_book(partial(read_book, Path(argument)), "file")


EXPANDERS: dict[str, Callable[[str], Expander]] = {
    "shipped": _without_argument("shipped", from_book(shipped_book, "shipped")),
    "wordnet": _without_argument("wordnet", from_wordnet),
    "file": _from_file,
}
