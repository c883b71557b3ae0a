"""Batches for a program under test: what an engine would send, made by hand.

Legend as in `contracts.step`: T rows, R rows that give something, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Output, Want

LONGEST = 24  # tokens of any sequence here


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one sequence: its tokens, where they begin, and whose blocks they lie in."""

    tokens: Sequence[int]
    start: int = 0
    owner: int = 0
    want: Want = Want.LOGITS


def tokens(vocab_size: int, num: int, seed: int = 0) -> list[int]:
    """A prompt."""
    return np.random.default_rng(seed).integers(0, vocab_size, num).tolist()


def table(kv: KVLayout, owner: int) -> tuple[int, ...]:
    """The blocks of one owner: in no order, so that nobody can rely on one."""
    num = -(-LONGEST // kv.block_size)
    return tuple(owner * num + i for i in reversed(range(num)))


def batch(kv: KVLayout, *parts: Part) -> Batch:
    """One step's work."""
    lengths = [len(part.tokens) for part in parts]
    flat = [token for part in parts for token in part.tokens]
    positions = [part.start + i for part in parts for i in range(len(part.tokens))]
    wants = [part.want for part in parts for _ in part.tokens]
    tables = tuple(table(kv, part.owner) for part in parts)
    return Batch(
        tokens_T=np.array(flat, np.int32),
        positions_T=np.array(positions, np.int32),
        starts_S1=np.cumsum([0, *lengths], dtype=np.int32),
        blocks_G=(tables,) * len(kv.groups),
        want_T=np.array(wants, np.uint8),
    )


def step(program: Any, work: Batch) -> Output:
    """Submit and wait."""
    found: Output = program.submit(work).result()
    return found


def run(program: Any, *parts: Part) -> list[NDArray[np.float32]]:
    """One step; the logits of each part's rows."""
    found = step(program, batch(program.kv, *parts)).logits_RV
    assert found is not None, "rows asked for logits and got none"
    cuts = np.cumsum([len(part.tokens) for part in parts])[:-1]
    return np.split(found, cuts)
