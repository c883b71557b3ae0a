"""Strategies whose ranks are threads of this process."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from specimens.harness import specimen


class Shard:
    phase = "shard"
    neutral = True

    def __call__(self, graph: Any, weights: Any) -> Any:
        return graph, weights


class Quantize(Shard):
    phase = "quantize"


class Unphased(Shard):
    phase = "later"


@specimen("parallelism")
class Threads:
    """Every exchange puts each rank's array on a table and waits for all."""

    def __init__(self) -> None:
        self.lines: dict[int, Table] = {}
        self.lock = threading.Lock()

    def rewrites(self, rank: int, world_size: int) -> Any:
        return [Quantize(), Shard()]

    def communicator(self, rank: int, world_size: int) -> Any:
        with self.lock:
            table = self.lines.setdefault(world_size, Table(world_size))
        return self.end(table, rank)

    def end(self, table: Table, rank: int) -> Any:
        return End(table, rank)


class Table:
    def __init__(self, world_size: int) -> None:
        self.barrier = threading.Barrier(world_size)
        self.arrays: list[Any] = [None] * world_size
        self.mail: dict[int, list[Any]] = {}
        self.arrived = threading.Condition()


class End:
    def __init__(self, table: Table, rank: int) -> None:
        self.table, self.rank, self.world_size = table, rank, len(table.arrays)

    def exchange(self, array: Any) -> list[Any]:
        self.table.arrays[self.rank] = array
        self.table.barrier.wait(20)
        found = list(self.table.arrays)
        self.table.barrier.wait(20)
        return found

    def all_reduce(self, array: Any) -> Any:
        parts = self.exchange(array)
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        self.table.barrier.wait(20)
        return total

    def all_gather(self, array: Any, axis: int) -> Any:
        return np.concatenate(self.exchange(array), axis)

    def send(self, array: Any, to: int) -> None:
        with self.table.arrived:
            self.table.mail.setdefault(to, []).append(array)
            self.table.arrived.notify_all()

    def recv(self, source: int) -> Any:
        with self.table.arrived:
            self.table.arrived.wait_for(lambda: self.table.mail.get(self.rank), 20)
            return self.table.mail[self.rank].pop(0)


@specimen("parallelism", "test_rewrites_are_rewrites")
class OwnPhase(Threads):
    def rewrites(self, rank: int, world_size: int) -> Any:
        return [Unphased()]


@specimen("parallelism", "test_rewrites_are_in_order")
class ShardsFirst(Threads):
    def rewrites(self, rank: int, world_size: int) -> Any:
        return [Shard(), Quantize()]


def _with(end: type[End]) -> type[Threads]:
    """The same strategy with other ends of the line."""
    return type(end.__name__, (Threads,), {"end": lambda self, table, rank: end(table, rank)})


class Mean(End):
    def all_reduce(self, array: Any) -> Any:
        return super().all_reduce(array) * np.float32(0.5 if self.world_size == 1 else 1)


class LastFirst(End):
    def all_reduce(self, array: Any) -> Any:
        parts = self.exchange(array)
        total = parts[-1].copy()
        for part in parts[-2::-1]:
            total += part
        return total


class Backwards(End):
    def all_gather(self, array: Any, axis: int) -> Any:
        return np.concatenate(self.exchange(array)[::-1], axis)


class Flattens(End):
    def send(self, array: Any, to: int) -> None:
        super().send(np.ravel(array), to)


class IntoTheFirst(End):
    def all_reduce(self, array: Any) -> Any:
        total = super().all_reduce(array)
        array[...] = total if self.world_size == 2 else array
        return total


class OneForAll(End):
    def all_reduce(self, array: Any) -> Any:
        total = super().all_reduce(array)
        return self.exchange(total)[0]


class Liar(End):
    """Says a world of its own when asked; works by the right one."""

    @property
    def world_size(self) -> int:
        return len(self.table.arrays) + 1

    @world_size.setter
    def world_size(self, value: int) -> None:
        pass


for rule, end in (
    ("test_one_rank_alone", Mean),
    ("test_communicator_knows_its_place", Liar),
    ("test_all_reduce_adds_in_rank_order", LastFirst),
    ("test_all_gather_joins_in_rank_order", Backwards),
    ("test_send_reaches_recv", Flattens),
    ("test_arrays_are_not_changed", IntoTheFirst),
    ("test_arrays_are_not_changed", OneForAll),
):
    specimen("parallelism", rule, _with(end))
