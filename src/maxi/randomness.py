"""Random numbers as a pure function of (seed, epoch, sample id), never of process order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def generator(purpose: str, seed: int, epoch: int = 0, sample: str = "") -> np.random.Generator:
    """Return a generator that depends on its arguments alone; `purpose` keeps two uses of one sample apart."""
    name = f"{purpose}|{seed}|{epoch}|{sample}".encode()
    key = int.from_bytes(blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.PCG64(key))


def shuffled(items: list[str], purpose: str, seed: int, epoch: int = 0) -> list[str]:
    """Return the items in a random order that does not depend on the order in which they come."""

    def place(item: str) -> bytes:
        return blake2b(f"{purpose}|{seed}|{epoch}|{item}".encode(), digest_size=16).digest()

    return sorted(items, key=lambda item: (place(item), item))
