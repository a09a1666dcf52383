"""Action names from captions: the verbs that a file of captions names most often (section 4.4, Tables 5 and 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from maxi.text.names import same
from maxi.text.verbs import VerbParser

CHUNK = 1000  # captions parsed at a time


def verb_names(captions: Iterable[str], n: int, without: Sequence[str] = ()) -> list[str]:
    """Return the `n` commonest verbs of captions as gerunds, commonest first, without those that are names already.

    Verbs that are equally common stand in the order of the alphabet. There are fewer when the captions hold fewer.
    """
    parser, counts = VerbParser(), Counter[str]()
    rows = list(captions)
    for start in range(0, len(rows), CHUNK):
        for forms in parser.captions(rows[start : start + CHUNK]):
            counts.update(forms[1::2])  # lemma and gerund take turns
    taken = {same(name) for name in without}
    ordered = sorted(counts, key=lambda verb: (-counts[verb], verb))
    return [verb for verb in ordered if same(verb) not in taken][:n]
