"""Whose turn it is: the queues of waiting sequences, one per tenant, served evenly.

Between tenants the one that has been given the fewest tokens goes first (the virtual token counter
of Sheng et al. 2024); within a tenant the smallest key. It knows nothing of blocks or budgets.
"""

from __future__ import annotations

import heapq

from llama_core.engine.sequence import Sequence, Status

REMEMBERED = 1024  # tenants kept before those that are idle and owe nothing are forgotten


class Tenant:
    """A queue and what its owner has been given."""

    __slots__ = ("heap", "in_turn", "name", "num_dead", "num_open", "serial", "served")

    def __init__(self, name: str, serial: int) -> None:
        self.name = name
        self.serial = serial
        self.heap: list[tuple[tuple[int, int], Sequence]] = []
        self.num_dead = 0  # entries of the heap that were cancelled while they waited
        self.num_open = 0  # sequences waiting or running
        self.served = 0
        self.in_turn = False  # whether it has an entry among the turns

    def prune(self) -> None:
        """Drop cancelled entries from the front, and all of them once they are the most."""
        heap = self.heap
        if self.num_dead * 2 > len(heap):
            self.heap = heap = [e for e in heap if e[1].status is Status.WAITING]
            heapq.heapify(heap)
            self.num_dead = 0
        while heap and heap[0][1].status is not Status.WAITING:
            heapq.heappop(heap)
            self.num_dead -= 1


class Tenants:
    """All tenants, and the one sequence that is to start next."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._all: dict[str, Tenant] = {}
        self._turns: list[tuple[int, int, Tenant]] = []  # by what was served when entered
        self._now = 0  # what the tenant whose turn it was last had been served by then
        self._serial = 0
        self._num_open = 0
        self._remembered = REMEMBERED

    def open(self, sequence: Sequence) -> None:
        """A new sequence: its tenant neither keeps credit from an idle time nor loses a debt."""
        if not self._num_open:
            self._all.clear()
            self._turns.clear()
            self._now = 0
        tenant = self._all.get(sequence.tenant)
        if tenant is None:
            if len(self._all) >= self._remembered:
                self._forget()
            self._serial += 1
            tenant = self._all[sequence.tenant] = Tenant(sequence.tenant, self._serial)
        if not tenant.num_open:
            tenant.served = max(tenant.served, self._now)
        sequence.account = tenant
        self.adopt(sequence)

    def adopt(self, sequence: Sequence) -> None:
        """A sequence whose tenant is known already: it forked off one that runs."""
        assert sequence.account is not None
        sequence.account.num_open += 1
        self._num_open += 1

    def close(self, sequence: Sequence) -> None:
        """The sequence is over."""
        assert sequence.account is not None
        sequence.account.num_open -= 1
        self._num_open -= 1

    def push(self, sequence: Sequence) -> None:
        tenant = sequence.account
        assert tenant is not None
        heapq.heappush(tenant.heap, (sequence.key, sequence))
        if not tenant.in_turn:
            tenant.in_turn = True
            heapq.heappush(self._turns, (tenant.served, tenant.serial, tenant))
        self.num_waiting += 1

    def discard(self, sequence: Sequence) -> None:
        """A waiting sequence was cancelled: its entry stays until it is in the way."""
        tenant = sequence.account
        assert tenant is not None
        tenant.num_dead += 1
        self.num_waiting -= 1
        tenant.prune()

    def head(self) -> Sequence | None:
        """The sequence to start next. Entries of tenants served meanwhile are put right here."""
        turns = self._turns
        while turns:
            served, _, tenant = turns[0]
            if not tenant.heap:
                heapq.heappop(turns)
                tenant.in_turn = False
            elif served != tenant.served:
                heapq.heapreplace(turns, (tenant.served, tenant.serial, tenant))
            else:
                return tenant.heap[0][1]
        return None

    def pop(self) -> Sequence:
        """Take the head off its queue."""
        head = self.head()
        assert head is not None
        tenant = head.account
        assert tenant is not None
        heapq.heappop(tenant.heap)
        tenant.prune()
        self.num_waiting -= 1
        self._now = max(self._now, tenant.served)
        return head

    def _forget(self) -> None:
        """Only idle tenants that are not ahead of the others: returning costs them nothing."""
        self._all = {
            name: tenant
            for name, tenant in self._all.items()
            if tenant.num_open or tenant.in_turn or tenant.served > self._now
        }
        self._remembered = max(REMEMBERED, 2 * len(self._all))
