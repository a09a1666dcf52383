"""Make a tokenizer of CLIP's own kind for a small vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any


def word_tokenizer(words: Iterable[str]) -> Any:
    """Return a CLIPTokenizer with one token for each of the words; other words fall apart into pieces and bytes.

    The two special tokens come last, as in CLIP.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [f"{letter}</w>" for letter in alphabet]
    merges = _merges(words)
    tokens += list(dict.fromkeys(left + right for left, right in merges))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Learn byte-pair encoding, the commonest pair first, until every word is one piece; return the merges.

    They are learnt on all words at once, since merges that are made word by word get in each other's way.
    """
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = pairs.most_common(1)[0][0]  # of pairs that are equally common, the first
        merges.append(best)
        pieces = [_merged(word, best) for word in pieces]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Return the pieces of a word with each such pair made into one piece."""
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
