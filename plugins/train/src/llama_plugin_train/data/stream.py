"""The stream of rows that a training run reads: mixed, shuffled, packed, and resumable by a number.

Global row i is a function of the seed and i. Rank r of n takes the rows that are r modulo n, so the
same rows are learnt together whatever n is, and a run may go on with other ranks than it began.
Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llama_core.announce import Announcements
from llama_core.errors import plain
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.data.mixing import Mixture
from llama_plugin_train.data.packing import Array, Cut, Packing, Whole
from llama_plugin_train.data.shards import Shards
from llama_plugin_train.data.shuffling import permuted


@dataclass(frozen=True, slots=True)
class Source:
    """Shards with their weight in the mixture, and how rows are made of them."""

    shards: Shards
    weight: float = 1.0
    packing: Literal["cut", "whole"] = "cut"


@dataclass(frozen=True, slots=True)
class Rows:
    """What one step of one rank learns. Segments number the documents of a row, in which positions
    restart; weight 0 is not learnt: prompts, padding, and the first token of the next document."""

    tokens_BT: Array  # int64
    targets_BT: Array  # int64
    weights_BT: Array  # float32
    positions_BT: Array  # int64
    segments_BT: Array  # int32


class Stream:
    """Rows without end. `next` moves on; `position` and `seek` are all there is to resume."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle: bool = True,
        announcements: Announcements | None = None,
    ) -> None:
        if length < 1 or batch_size < 1 or not 0 <= rank < num_ranks:
            raise DataError(
                f"there are no rows of {length} tokens, {batch_size} at a time, for rank {rank} of "
                f"{num_ranks}"
            )
        self.length, self.batch_size = length, batch_size
        self.rank, self.num_ranks = rank, num_ranks
        self._seed, self._shuffle = seed, shuffle
        self._sources = list(sources)
        self._mixture = Mixture([one.weight for one in sources])
        self._packings = [_packed(one, length) for one in sources]
        self._row = 0
        said = announcements or Announcements()
        for source, packing in zip(self._sources, self._packings, strict=True):
            _tell(source, packing, length, said)

    @property
    def num_rows(self) -> int:
        """How many different rows there are, in all sources."""
        return sum(one.num_rows for one in self._packings)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides which row has which number."""
        return {
            "seed": self._seed,
            "shuffle": self._shuffle,
            "length": self.length,
            "sources": [
                {
                    "name": one.shards.name,
                    "digest": one.shards.digest,
                    "weight": one.weight,
                    "packing": one.packing,
                }
                for one in self._sources
            ],
        }

    def next(self) -> Rows:
        """The next rows of this rank; all ranks move on together."""
        rows = self._row + self.rank + self.num_ranks * np.arange(self.batch_size)
        self._row += self.batch_size * self.num_ranks
        return self.rows(rows)

    def once(self) -> Iterator[Rows]:
        """Every row of every source once, this rank's share of them, in order: for evaluation."""
        ends = np.cumsum([one.num_rows for one in self._packings])
        mine = np.arange(self.rank, int(ends[-1]), self.num_ranks)
        for first in range(0, len(mine), self.batch_size):
            some = mine[first : first + self.batch_size]
            owners = np.searchsorted(ends, some, "right")
            starts = ends - [one.num_rows for one in self._packings]
            yield self._filled(owners, some - starts[owners])

    def rows(self, numbers: Array | Sequence[int]) -> Rows:
        """The rows of these global numbers."""
        owners, inside = self._mixture.find(np.asarray(numbers, np.int64))
        chosen = np.empty_like(inside)
        for owner in np.unique(owners).tolist():
            mine = owners == owner
            size = self._packings[owner].num_rows
            epochs, at = np.divmod(inside[mine], size)
            chosen[mine] = self._shuffled(owner, epochs, at, size)
        return self._filled(owners, chosen)

    def _shuffled(self, owner: int, epochs: Array, at: Array, size: int) -> Array:
        if not self._shuffle:
            return at
        found = np.empty_like(at)
        for epoch in np.unique(epochs).tolist():
            which = epochs == epoch
            name = self._sources[owner].shards.name
            found[which] = permuted(at[which], size, self._seed, owner, name, epoch)
        return found

    def _filled(self, owners: Array, rows: Array) -> Rows:
        for owner in set(owners.tolist()):
            self._sources[owner].shards.check()
        shape = (len(rows), self.length + 1)
        tokens, weights = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        segments = np.zeros(shape, np.int32)
        for i, (owner, row) in enumerate(zip(owners.tolist(), rows.tolist(), strict=True)):
            self._packings[owner].fill(row, tokens[i], weights[i], segments[i])
        follows = segments[:, 1:] == segments[:, :-1]
        counted = np.arange(self.length)
        starts = np.zeros((len(rows), self.length), np.int64)
        starts[:, 1:] = np.where(follows[:, :-1], 0, counted[1:])
        positions = counted - np.maximum.accumulate(starts, axis=1)
        return Rows(
            tokens[:, :-1],
            tokens[:, 1:],
            weights[:, 1:] * follows,
            positions,
            segments[:, :-1],
        )

    # -----------------------------------------------------------------------------------------
    # Resuming
    # -----------------------------------------------------------------------------------------

    def epochs(self, row: int | None = None) -> dict[str, float]:
        """How often each source was gone through by now, or before a row."""
        row = self._row if row is None else row
        owners, inside = self._mixture.find(np.arange(max(0, row - 1000), row))
        return {
            source.shards.name: (
                float(inside[owners == i].max() + 1) / packing.num_rows
                if (owners == i).any()
                else 0.0
            )
            for i, (source, packing) in enumerate(zip(self._sources, self._packings, strict=True))
        }

    def position(self) -> dict[str, Any]:
        """Where the stream is, for JSON; the same on every rank."""
        return {"row": self._row, **self.identity}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from a position, of a run with any number of ranks and rows at a time."""
        row, mine = position.get("row"), self.identity
        if type(row) is not int or row < 0:
            raise DataError(f"'{plain(row)}' is no row to go on from")
        if differing := [name for name in mine if position.get(name) != mine[name]]:
            raise DataError(
                "the position is of other data: "
                + "; ".join(
                    _difference(name, position.get(name), mine[name]) for name in differing
                ),
                remedy="Go on with the data and settings that the run began with.",
            )
        self._row = row


def _packed(source: Source, length: int) -> Packing:
    kinds: dict[str, type[Cut] | type[Whole]] = {"cut": Cut, "whole": Whole}
    if source.packing not in kinds:
        raise DataError(
            f"no rows are packed as '{plain(source.packing)}'", remedy="Choose cut or whole."
        )
    return kinds[source.packing](source.shards, length)


def _tell(source: Source, packing: Packing, length: int, said: Announcements) -> None:
    name, tokens = source.shards.name, source.shards.num_tokens
    if isinstance(packing, Whole) and packing.num_cut:
        said.note(
            f"{packing.num_cut} of {source.shards.num_documents} documents of '{name}' are longer "
            f"than a row of {length} tokens and lose their end",
            remedy="Choose longer rows, or packing by cutting.",
        )
    if tokens <= length:
        said.note(
            f"'{name}' has {tokens} tokens, not enough for one row of {length}: it is padded",
            remedy="Give more text, or choose shorter rows.",
        )


def _difference(name: str, then: Any, now: Any) -> str:
    if name != "sources" or not isinstance(then, list):
        return f"{name} was {plain(then)} and is {plain(now)}"
    pairs = zip(then, now, strict=False)
    changed = [
        f"source '{plain(one['name'])}' was '{plain(old.get('name'))}' with other shards or weight"
        for old, one in pairs
        if isinstance(old, Mapping) and old != one
    ]
    return ", ".join(changed) or f"there were {len(then)} sources and are {len(now)}"
