"""Logits to try a transform or a sampler on: ordinary, odd and partly forbidden.

Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.transform import SamplingContext

Array = NDArray[Any]
ALMOST_ONE = 1 - 2.0**-53


def logits(num_rows: int, vocab_size: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Rows such as a model gives."""
    random = np.random.default_rng(seed)
    return (4 * random.standard_normal((num_rows, vocab_size))).astype(np.float32)


def with_forbidden(num_rows: int, vocab_size: int) -> NDArray[np.float32]:
    """Rows in which earlier transforms have forbidden some tokens, the likeliest among them."""
    rows = logits(num_rows, vocab_size, seed=2)
    forbidden = np.random.default_rng(3).random(rows.shape) < 0.4
    forbidden[np.arange(num_rows), rows.argmin(-1)] = False
    forbidden[np.arange(num_rows), rows.argmax(-1)] = True
    rows[forbidden] = -np.inf
    return rows


def few_left(size: int) -> list[tuple[tuple[int, ...], NDArray[np.float32]]]:
    """Rows in which three, two or one token is left: first, in the middle and last; and which."""
    found = []
    for num in range(min(3, size), 0, -1):
        for first in sorted({0, (size - num) // 2, size - num}):
            left = tuple(range(first, first + num))
            row = np.full((1, size), -np.inf, np.float32)
            row[0, first : first + num] = (1, 3, 2)[:num]
            found.append((left, row))
    return found


def odd_rows(size: int) -> list[NDArray[np.float32]]:
    """Rows that are legal and unusual: all equal, one left, huge, tiny, many forbidden."""
    one_left = np.full((1, size), -np.inf, np.float32)
    one_left[0, 5] = -3
    huge = logits(1, size) * np.float32(1e20)
    return [np.zeros((1, size), np.float32), one_left, huge, huge * 1e-28, with_forbidden(2, size)]


def context(vocab_size: int, num_output: int = 3) -> SamplingContext:
    """A request after a few tokens."""
    tokens = np.random.default_rng(4).integers(0, vocab_size, 5 + num_output).tolist()
    return SamplingContext(tuple(tokens[:5]), tuple(tokens[5:]), seed=7)


def same(a: Array, b: Array) -> bool:
    """The same bits."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def sealed(array: Array) -> Array:
    """A copy that cannot be written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def uniforms(num_rows: int) -> NDArray[np.float64]:
    """Random numbers in [0, 1), one a row."""
    return np.random.default_rng(5).random(num_rows)
