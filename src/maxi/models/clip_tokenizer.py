"""CLIP's own tokenizer, for weights that come without one."""

from __future__ import annotations

import gzip
import html
from functools import cache
from importlib import resources
from typing import Any


@cache
def clip_tokenizer() -> Any:
    """The 49,408 tokens of OpenAI's CLIP as a CLIPTokenizer; the specials are the last two."""
    from transformers import CLIPTokenizer

    packed = (resources.files("maxi") / "data" / "clip-merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    # Bytes in the order of CLIP's vocabulary: those that print by themselves, then the others.
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printing] + [chr(256 + n) for n in range(256 - len(printing))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


def tidy(text: str) -> str:
    """What CLIP was trained to read: mended Unicode, plain quotes, no HTML entities."""
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()
