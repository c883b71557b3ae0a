"""The rules of a parallelism strategy: the rewrites of each rank, and the line between ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core import contracts
from llama_core.contracts.rewrite import PHASES
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check

WATCHDOG_SECONDS = 60.0


class ParallelismContract(FreshObjects, PluginContract):
    """What a strategy must keep to. Ranks are threads here, and share one strategy object.

    `num_ranks` is how many there are; override `line` where the ends meet in another way.
    """

    kind = "parallelism"
    num_ranks: ClassVar[int] = 2

    def line(self, make: Make, num_ranks: int) -> list[Callable[[], Any]]:
        """What makes each rank's end of the line, to be called in that rank's thread."""
        given = make()
        return [partial(given.communicator, rank, num_ranks) for rank in range(num_ranks)]

    def test_rewrites_are_rewrites(self, make: Make) -> None:
        """What it gives for each rank fulfils the rewrite contract, with a phase there is."""
        for rank in range(self.num_ranks):
            for each in make().rewrites(rank, self.num_ranks):
                lacks = contracts.spec("rewrite").unfulfilled(each)
                phase = getattr(each, "phase", None)
                check(lacks is None, f"rewrites({rank}, {self.num_ranks}): {lacks}")
                check(phase in PHASES, f"a rewrite has the phase {phase!r}, not one of {PHASES}.")

    def test_rewrites_are_in_order(self, make: Make) -> None:
        """They come in the order of their phases."""
        found = [each.phase for each in make().rewrites(0, self.num_ranks)]
        order = [PHASES.index(phase) for phase in found if phase in PHASES]
        check(order == sorted(order), f"the phases are {found}; sort them as {PHASES}.")

    def test_one_rank_alone(self, make: Make) -> None:
        """A world of one needs no one else: what is summed or joined comes back as it was."""
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        found = self._ranks(make, 1, lambda line: (line.all_reduce(x), line.all_gather(x, 0)))
        for each in found[0]:
            check(np.array_equal(each, x), "with one rank the array must come back unchanged.")

    def test_communicator_knows_its_place(self, make: Make) -> None:
        """Each end says its own rank and how many there are."""
        found = self._ranks(make, self.num_ranks, lambda line: (line.rank, line.world_size))
        expected = [(rank, self.num_ranks) for rank in range(self.num_ranks)]
        check(found == expected, f"(rank, world_size) are {found} and should be {expected}.")

    def test_all_reduce_adds_in_rank_order(self, make: Make) -> None:
        """Every rank gets the sum of all arrays, added in rank order: the same bits everywhere."""
        parts = _arrays(3)
        expected = (parts[0] + parts[1]) + parts[2]
        for found in self._ranks(make, 3, lambda line: line.all_reduce(parts[line.rank])):
            check(
                np.array_equal(found, expected) and found.dtype == np.float32,
                "all_reduce is not ((x0 + x1) + x2) to the bit on every rank. Add in float32, in "
                "the order of the ranks.",
            )

    def test_all_gather_joins_in_rank_order(self, make: Make) -> None:
        """Every rank gets all arrays joined along the axis, in rank order."""
        parts = _arrays(self.num_ranks)
        for axis in (0, 1, -1):
            joined = np.concatenate(parts, axis)

            def gather(line: Any, axis: int = axis) -> Any:
                return line.all_gather(parts[line.rank], axis)

            for found in self._ranks(make, self.num_ranks, gather):
                check(
                    np.array_equal(found, joined),
                    f"all_gather along {axis} is not the arrays in rank order.",
                )

    def test_send_reaches_recv(self, make: Make) -> None:
        """What one rank sends the other receives, several in their order, shapes and all."""
        parts = [*_arrays(2), np.zeros((0, 3), np.float32), np.ones((1, 1), np.float32)]

        def talk(line: Any) -> list[Any]:
            if line.rank == 1:
                return [line.recv(0) for _ in parts]
            for part in parts:
                line.send(part, 1)
            return []

        found = self._ranks(make, 2, talk)[1]
        same = [
            np.array_equal(a, b) and a.shape == b.shape for a, b in zip(found, parts, strict=True)
        ]
        check(
            all(same),
            f"of {len(same)} arrays sent, {same.count(False)} came out otherwise. Keep shapes and "
            "order.",
        )

    def test_arrays_are_not_changed(self, make: Make) -> None:
        """The array handed to `all_reduce` is as it was, and the sum is not shared."""
        parts, before = _arrays(2), _arrays(2)

        def reduce(line: Any) -> Any:
            found = line.all_reduce(parts[line.rank])
            found += 1  # whoever gets a sum may write into it
            return found

        found = self._ranks(make, 2, reduce)
        kept = all(np.array_equal(a, b) for a, b in zip(parts, before, strict=True))
        check(kept, "all_reduce wrote into the array it was given. Add into a copy.")
        check(
            all(np.array_equal(each, before[0] + before[1] + 1) for each in found),
            "two ranks got the same array, so that one overwrites the other's. Give each its own.",
        )

    def _ranks(self, make: Make, num_ranks: int, work: Callable[[Any], Any]) -> list[Any]:
        """Run the work at every end of a new line, each in a thread; the results by rank."""
        results: list[Any] = [None] * num_ranks
        errors: list[BaseException] = []

        def one(rank: int, connect: Callable[[], Any]) -> None:
            try:
                results[rank] = work(connect())
            except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
                errors.append(error)

        ends = enumerate(self.line(make, num_ranks))
        threads = [threading.Thread(target=one, args=end, daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG_SECONDS if not errors else 1.0)
        if errors:
            raise errors[0]
        if any(thread.is_alive() for thread in threads):
            pytest.fail("the ranks wait for each other for ever.", pytrace=False)
        return results


def _arrays(num: int) -> list[Any]:
    dice = np.random.default_rng(1)
    return [
        dice.standard_normal((4, 5)).astype(np.float32) * np.float32(100**i) for i in range(num)
    ]
