"""Fill prompt templates with names, and clean texts (appendix B)."""

from __future__ import annotations

import re
import unicodedata

from maxi.errors import MaxiError

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

MAX_PHRASE = 200  # characters

_QUOTES = "\"'`“”‘’‚„«»‹› "
_TRAILING = ".,;:!?…。！？、，；：-–— "


def with_name(template: str, name: str) -> str:
    """Return the template with the name in place of each `{}`; raise MaxiError when it has no `{}`."""
    if "{}" not in template:
        raise MaxiError(f"prompt template {template!r} has no {{}}; put {{}} where the name goes")
    return template.replace("{}", name)


def filled(prompt: str, **texts: str) -> str:
    """Return a prompt with the texts in place of `{name}`, `{text}`; a text that holds such a mark stays as it is."""
    return re.sub(r"\{(name|text)\}", lambda mark: texts.get(mark[1], mark[0]), prompt)


def clean(text: str, limit: int = MAX_PHRASE) -> str:
    """Return a text from outside as one line in lower case, without quotes around it or a mark at its end.

    Characters are in Unicode's composed form (NFC), control characters are dropped, and a text of more than
    `limit` characters is cut after its last whole word.
    """
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
