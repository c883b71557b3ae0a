"""Ranks as threads of one process: the reference of what a line between ranks must do.

Each rank has its own end; arrays are handed over as they are. Sums are added in rank order, so
that every rank has the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, Queue

import numpy as np

from llama_core.errors import LlamaError
from llama_core.model.numerics import Array

PATIENCE_SECONDS = 60.0


class RankLost(LlamaError):
    """Another rank did not come to a meeting."""

    code = "rank_lost"


class Line:
    """One rank's end."""

    def __init__(self, rank: int, shared: _Shared) -> None:
        self.rank = rank
        self.world_size = shared.world_size
        self._shared = shared

    def all_reduce(self, array: Array) -> Array:
        arrays = self._meet(array)
        total = arrays[0].copy()
        for one in arrays[1:]:
            total += one
        return total

    def all_gather(self, array: Array, axis: int) -> Array:
        return np.concatenate(self._meet(array), axis=axis)

    def send(self, array: Array, to: int) -> None:
        self._shared.boxes[self.rank, to].put(array.copy())

    def recv(self, source: int) -> Array:
        try:
            return self._shared.boxes[source, self.rank].get(timeout=PATIENCE_SECONDS)
        except Empty:
            raise RankLost(f"rank {self.rank} waited in vain for rank {source}") from None

    def _meet(self, array: Array) -> Sequence[Array]:
        """Everybody's arrays, in rank order, once all are there."""
        shared = self._shared
        try:
            shared.arrays[self.rank] = array
            shared.barrier.wait(PATIENCE_SECONDS)
            arrays = list(shared.arrays)
            shared.barrier.wait(PATIENCE_SECONDS)
        except threading.BrokenBarrierError:
            raise RankLost(f"rank {self.rank} waited in vain for the other ranks") from None
        return arrays


class _Shared:
    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size)
        self.arrays: list[Array] = [np.zeros(0)] * world_size
        self.boxes: dict[tuple[int, int], Queue[Array]] = {
            (a, b): Queue() for a in range(world_size) for b in range(world_size)
        }


def lines(world_size: int) -> tuple[Line, ...]:
    """The ends of one line, by rank."""
    shared = _Shared(world_size)
    return tuple(Line(rank, shared) for rank in range(world_size))
