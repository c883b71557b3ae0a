"""What the next step computes: which sequences, how many rows of each, in which blocks.

Decodes come first, then prompts in chunks, within a budget of rows. It knows no request, no text,
no logits and no clock: time comes in as an argument, and equal inputs give equal schedules.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from operator import attrgetter

from llama_core.engine.blocks import BlockManager, Copy
from llama_core.engine.sequence import Sequence, Status
from llama_core.engine.tenants import Tenants

KEY = attrgetter("key")


@dataclass(slots=True)
class Schedule:
    """One step: sequences with `num_scheduled` rows each, and what to do before."""

    sequences: list[Sequence] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    expired: list[Sequence] = field(default_factory=list)
    started: list[tuple[Sequence, int]] = field(default_factory=list)  # with cached tokens
    num_rows: int = 0


class Scheduler:
    """Waiting and running sequences. A sequence that waits holds no block.

    The order is arrival plus `patience` for each level of priority (a smaller one is sooner): a
    level is worth that many later arrivals and no more, so nobody waits for ever. Whoever comes
    first in this order is never preempted once it runs; that is why everything ends.
    """

    def __init__(
        self,
        blocks: BlockManager,
        max_rows: int,
        max_sequences: int,
        patience: int = 1000,
        whole: bool = False,
    ) -> None:
        self.blocks = blocks
        self.max_rows = max_rows
        self.max_sequences = max_sequences
        self.patience = patience
        self.whole = whole  # a sequence is computed in one step or not begun
        self.running: list[Sequence] = []  # in order of key
        self.num_slots = 0  # taken by running sequences and the siblings they will have
        self.num_preemptions = 0
        self._tenants = Tenants()
        self._arrivals = 0
        self._deadlines: list[tuple[float, int, Sequence]] = []

    @property
    def num_waiting(self) -> int:
        return self._tenants.num_waiting

    @property
    def idle(self) -> bool:
        return not self.running and not self._tenants.num_waiting

    def add(self, sequence: Sequence, priority: int = 0) -> None:
        """Queue a new sequence. Whether it can ever fit is the caller's to check."""
        self._arrivals += 1
        sequence.key = (self._arrivals + priority * self.patience, sequence.id)
        self._tenants.open(sequence)
        self._tenants.push(sequence)
        if sequence.deadline is not None:
            heapq.heappush(self._deadlines, (sequence.deadline, sequence.id, sequence))

    def remove(self, sequence: Sequence) -> None:
        """End a sequence, wherever it is; doing so twice is allowed."""
        if sequence.status is Status.RUNNING:
            self._stop(sequence)
            sequence.status = Status.FINISHED
            self._tenants.close(sequence)
        elif sequence.status is Status.WAITING:
            sequence.status = Status.FINISHED
            self._tenants.close(sequence)
            self._tenants.discard(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Run a sibling beside the parent, in one of the slots that the parent holds for it."""
        assert parent.slots > 1, "a sibling needs a slot that its parent was admitted with"
        parent.slots -= 1
        child.status = Status.RUNNING
        self.blocks.fork(parent, child)
        self._tenants.adopt(child)
        insort(self.running, child, key=KEY)
        if child.deadline is not None:
            heapq.heappush(self._deadlines, (child.deadline, child.id, child))

    def preempt(self, victim: Sequence) -> None:
        """Take a running sequence's blocks and put it back in the queue, at its old place."""
        self._stop(victim)
        victim.status = Status.WAITING
        self._tenants.push(victim)
        self.num_preemptions += 1

    def schedule(self, now: float = 0.0) -> Schedule:
        """Decide the next step; nothing is computed yet."""
        plan = Schedule()
        if self._deadlines:
            self._expire(now, plan)
        self._schedule_decodes(plan)
        self._schedule_prompts(plan)
        if not plan.preempted:
            self._admit(plan)
        else:
            plan.sequences = [s for s in plan.sequences if s.num_scheduled]
            plan.copies = [c for c in plan.copies if c.sequence.num_scheduled]
        return plan

    def _schedule_decodes(self, plan: Schedule) -> None:
        running, i, block_size = self.running, 0, self.blocks.block_size
        spare = max(0, self.max_rows - len(running))  # drafts take only what decodes leave
        while i < len(running) and plan.num_rows < self.max_rows:
            sequence = running[i]
            i += 1
            if len(sequence.tokens) - sequence.num_computed != 1:
                continue
            if sequence.num_computed % block_size and not (sequence.drafts or sequence.shared):
                self._charge(sequence, 1, plan)  # its last block has room, and is its own
                continue
            rows = 1
            if sequence.drafts:
                sequence.drafts = sequence.drafts[:spare]
                spare -= len(sequence.drafts)
                rows += len(sequence.drafts)
            self._place(sequence, rows, plan)

    def _schedule_prompts(self, plan: Schedule) -> None:
        running, i = self.running, 0
        while i < len(running) and plan.num_rows < self.max_rows:
            sequence = running[i]
            i += 1
            if sequence.num_scheduled == 0 and sequence.num_uncomputed > 1:
                self._place(
                    sequence, min(sequence.num_uncomputed, self.max_rows - plan.num_rows), plan
                )

    def _admit(self, plan: Schedule) -> None:
        """Start waiting sequences in order; the first that does not fit yet stops the queue."""
        while plan.num_rows < self.max_rows and (head := self._tenants.head()) is not None:
            if self.num_slots + head.slots > self.max_sequences:
                return
            if self.whole and head.num_uncomputed > self.max_rows - plan.num_rows:
                return
            hits = self.blocks.lookup(head)
            if not self.blocks.has_room(head, hits, self.running):
                return
            self._tenants.pop()
            self.blocks.attach(head, hits)
            head.status = Status.RUNNING
            self.num_slots += head.slots
            insort(self.running, head, key=KEY)
            plan.started.append((head, head.num_computed))
            rows = min(head.num_uncomputed, self.max_rows - plan.num_rows)
            grown = self.blocks.grow(head, head.num_computed + rows, plan.copies)
            assert grown, "there was room for the whole sequence"
            self._charge(head, rows, plan)

    def _place(self, sequence: Sequence, rows: int, plan: Schedule) -> None:
        """Give a running sequence its blocks and its rows, preempting from the end of the order."""
        while not self.blocks.grow(sequence, sequence.num_computed + rows, plan.copies):
            victim = self.running[-1]
            plan.num_rows -= victim.num_scheduled
            self.preempt(victim)
            plan.preempted.append(victim)
            if victim is sequence:
                return
        self._charge(sequence, rows, plan)

    def _charge(self, sequence: Sequence, rows: int, plan: Schedule) -> None:
        sequence.num_scheduled = rows
        plan.num_rows += rows
        plan.sequences.append(sequence)
        end = sequence.num_computed + rows
        if end > sequence.num_charged:
            assert sequence.account is not None
            sequence.account.served += end - max(sequence.num_charged, sequence.num_computed)
            sequence.num_charged = end

    def _stop(self, sequence: Sequence) -> None:
        """Take a sequence off the running list, with its blocks."""
        del self.running[bisect_left(self.running, sequence.key, key=KEY)]
        self.num_slots -= sequence.slots
        self.blocks.release(sequence)
        sequence.num_scheduled = 0
        sequence.drafts = ()

    def _expire(self, now: float, plan: Schedule) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            sequence = heapq.heappop(self._deadlines)[2]
            if sequence.status is not Status.FINISHED:
                self.remove(sequence)
                plan.expired.append(sequence)
        if len(self._deadlines) > 64 + 2 * (len(self.running) + self._tenants.num_waiting):
            self._deadlines = [d for d in self._deadlines if d[2].status is not Status.FINISHED]
            heapq.heapify(self._deadlines)
