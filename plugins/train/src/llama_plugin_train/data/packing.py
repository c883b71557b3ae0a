"""Rows of one length out of documents of any: cut where a row is full, or packed whole.

`Cut` lays the documents end to end, so no token is lost and none is padding but at a shard's end.
`Whole` puts whole documents together, the best fit of a window of them, for conversations whose
beginning must be in the same row; what is longer than a row loses its end.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any, Protocol

import numpy as np

from llama_plugin_train.data.shards import Shards

WINDOW = 2048  # documents that are packed with each other

Array = np.ndarray[Any, np.dtype[Any]]


class Packing(Protocol):
    """Rows of `length` tokens and the one after, by number."""

    num_rows: int

    def fill(self, row: int, tokens: Array, weights: Array, segments: Array) -> None:
        """Write a row into arrays of length + 1, zeroed before; segments number its documents."""


class Cut:
    """Row r of a shard is its tokens from r times length on."""

    def __init__(self, shards: Shards, length: int) -> None:
        self._shards, self._length = shards, length
        counts = [max(1, -(-(len(one) - 1) // length)) for one in shards.tokens]
        self._firsts = np.concatenate([[0], np.cumsum(counts)])
        self.num_rows = int(self._firsts[-1])

    def fill(self, row: int, tokens: Array, weights: Array, segments: Array) -> None:
        shard = int(np.searchsorted(self._firsts, row, "right")) - 1
        held, ends = self._shards.tokens[shard], self._shards.ends[shard]
        first = (row - int(self._firsts[shard])) * self._length
        last = min(first + self._length + 1, len(held))
        count = last - first
        tokens[:count] = held[first:last]
        given = self._shards.weights[shard]
        weights[:count] = 1 if given is None else given[first:last]
        begin, end = np.searchsorted(ends, (first, last), ("right"))
        starts = ends[begin:end] - first
        segments[starts[starts < count]] = 1
        if count < len(segments):
            segments[count] = 1  # padding is a document of its own, which nothing learns
        np.cumsum(segments, out=segments)


class Whole:
    """Documents by the row that best-fit put them into."""

    def __init__(self, shards: Shards, length: int) -> None:
        self._shards, self._length = shards, length
        counts = [len(one) for one in shards.ends]
        self._firsts = np.concatenate([[0], np.cumsum(counts)])
        sizes = np.concatenate([np.diff(one, prepend=0) for one in shards.ends])
        self.num_cut = int((sizes > length + 1).sum())
        fitted = np.minimum(sizes, length + 1)
        order: list[int] = []
        ends = [0]
        for first in range(0, len(fitted), WINDOW):
            for row in _best_fit(fitted[first : first + WINDOW].tolist(), length + 1):
                order += [first + one for one in row]
                ends.append(len(order))
        self._order, self._ends = np.array(order, np.int64), np.array(ends, np.int64)
        self.num_rows = len(ends) - 1

    def fill(self, row: int, tokens: Array, weights: Array, segments: Array) -> None:
        at = 0
        segment = 0
        for document in self._order[self._ends[row] : self._ends[row + 1]].tolist():
            shard = int(np.searchsorted(self._firsts, document, "right")) - 1
            inside = document - int(self._firsts[shard])
            ends = self._shards.ends[shard]
            first = int(ends[inside - 1]) if inside else 0
            last = min(int(ends[inside]), first + self._length + 1)
            stop = at + last - first
            tokens[at:stop] = self._shards.tokens[shard][first:last]
            given = self._shards.weights[shard]
            weights[at:stop] = 1 if given is None else given[first:last]
            segments[at:stop] = segment
            at, segment = stop, segment + 1
        segments[at:] = segment


def _best_fit(sizes: list[int], capacity: int) -> list[list[int]]:
    """Longest first, each into the row that it leaves the least room in."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left, and the row
    for number in sorted(range(len(sizes)), key=lambda one: (-sizes[one], one)):
        size = sizes[number]
        found = bisect_left(room, (size, -1))
        if found == len(room):
            rows.append([number])
            insort(room, (capacity - size, len(rows) - 1))
        else:
            left, row = room.pop(found)
            rows[row].append(number)
            insort(room, (left - size, row))
    return rows
