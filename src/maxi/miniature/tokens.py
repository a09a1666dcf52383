"""A tokenizer for a small vocabulary, of CLIP's own kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any


def word_tokenizer(words: Iterable[str]) -> Any:
    """A CLIPTokenizer with one token for each of the words; anything else falls apart into pieces and bytes.

    The two special tokens come last, as in CLIP.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [f"{letter}</w>" for letter in alphabet]
    merges = _merges(words)
    tokens += list(dict.fromkeys(left + right for left, right in merges))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding, the commonest pair first, until every word is one piece.

    Learnt on all words at once: merges made up word by word get in each other's way.
    """
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = pairs.most_common(1)[0][0]  # of equals the first met
        merges.append(best)
        pieces = [_joined(word, best) for word in pieces]
    return merges


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for piece in word:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found
