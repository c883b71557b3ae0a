"""A shuffle that needs no memory: a keyed permutation of 0 … n-1, computed where it is asked.

A Feistel network permutes the numbers of an even count of bits, and what falls outside n is sent
through again until it does not (the domain is less than four times n).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

_ROUNDS = 6
Indices = np.ndarray[Any, np.dtype[np.int64]]


def permuted(indices: Indices, size: int, *key: object) -> Indices:
    """Where each index goes; a bijection of range(size) for every key."""
    if size < 2:
        return np.zeros_like(indices)
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = _keys(repr(key))
    x = indices.astype(np.uint64)
    outside = np.ones(x.shape, bool)
    while outside.any():
        x[outside] = _feistel(x[outside], half, keys)
        outside = x >= np.uint64(size)
    return x.astype(np.int64)


def _feistel(x: Any, half: Any, keys: Any) -> Any:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return left << half | right


def _mixed(x: Any) -> Any:
    """SplitMix64's finalizer: every bit of the result depends on every bit given."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


@lru_cache(maxsize=256)
def _keys(key: str) -> Any:
    digest = blake2b(key.encode(), digest_size=8 * _ROUNDS).digest()
    return np.frombuffer(digest, "<u8")
