"""CLIP's own tokenizer, for weights that come without one."""

from __future__ import annotations

import gzip
import html
from functools import cache
from importlib import resources
from typing import Any


@cache
def clip_tokenizer() -> Any:
    """Return the tokenizer of OpenAI's CLIP with its 49,408 tokens, of which the last two are the special ones."""
    from transformers import CLIPTokenizer

    compressed = (resources.files("maxi") / "data" / "clip-merges.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode().splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    # One letter for each byte, in the order of CLIP's vocabulary: printable bytes, then substitutes for the others.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    substitutes = range(256, 256 + 256 - len(printable))
    letters = [chr(code) for code in (*printable, *substitutes)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


def tidy(text: str) -> str:
    """Return the text as CLIP was trained to read it: with mended Unicode and plain quotes, without HTML entities."""
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()
