"""The scheduler and its blocks against a model that writes down what every block must hold."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llama_core.engine.blocks import GONE, BlockManager, root_hash
from llama_core.engine.scheduler import Schedule, Scheduler
from llama_core.engine.sequence import Sequence, Status


class World:
    """A scheduler, and a memory that is written as a program would write it."""

    def __init__(
        self,
        *,
        windows: tuple[int | None, ...] = (None,),
        num_blocks: int = 12,
        block_size: int = 2,
        max_rows: int = 6,
        max_sequences: int = 4,
        patience: int = 5,
    ) -> None:
        self.blocks = BlockManager(windows, num_blocks, block_size, max_rows)
        self.scheduler = Scheduler(self.blocks, max_rows, max_sequences, patience)
        self.memory: dict[tuple[int, int, int], tuple[object, ...]] = {}
        self.open: dict[int, tuple[Sequence, int]] = {}  # with the length at which it ends
        self.gone: set[int] = set()
        self.now = 0.0
        self.serial = 0

    def add(
        self,
        prompt: list[int],
        more: int,
        *,
        tenant: str = "",
        priority: int = 0,
        slots: int = 1,
        deadline: float | None = None,
    ) -> Sequence:
        self.serial += 1
        sequence = Sequence(
            self.serial,
            list(prompt),
            root=root_hash(tenant),
            tenant=tenant,
            slots=slots,
            deadline=deadline,
        )
        assert self.blocks.fits(len(prompt) + more)
        self.open[sequence.id] = sequence, len(prompt) + more
        self.scheduler.add(sequence, priority)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        self.open.pop(sequence.id, None)
        self.gone.add(sequence.id)

    def step(self) -> Schedule:
        """Schedule, then do to memory and sequences what program and engine would do."""
        self.now += 1
        plan = self.scheduler.schedule(self.now)
        for sequence in plan.expired:
            del self.open[sequence.id]
            self.gone.add(sequence.id)
        assert sum(s.num_scheduled for s in plan.sequences) == plan.num_rows
        assert plan.num_rows <= self.scheduler.max_rows
        assert len({s.id for s in plan.sequences}) == len(plan.sequences)
        assert not self.gone & {s.id for s in plan.sequences}, "a cancelled sequence was scheduled"
        size = self.blocks.block_size
        for copy in plan.copies:
            for i in range(size):
                held = self.memory.get((copy.group, copy.source, i), ())
                self.memory[copy.group, copy.target, i] = held
        for sequence in plan.sequences:
            assert sequence.status is Status.RUNNING
            assert sequence.num_scheduled > 0
            end = sequence.num_computed + sequence.num_scheduled
            row = [*sequence.tokens, *sequence.drafts]
            for p in range(sequence.num_computed, end):
                for g, table in enumerate(sequence.tables):
                    assert self.blocks.pools[g].refs[table[p // size]] == 1, "written while shared"
                    self.memory[g, table[p // size], p % size] = sequence.root, tuple(row[: p + 1])
        for sequence in plan.sequences:
            self._compute(sequence)
        return plan

    def _compute(self, sequence: Sequence) -> None:
        rows, sequence.num_scheduled = sequence.num_scheduled, 0
        drafts, sequence.drafts = sequence.drafts, []
        sequence.num_computed += rows - len(drafts)
        self.blocks.commit(sequence, sequence.num_computed)
        self.check_memory(sequence)
        if sequence.num_uncomputed:
            return
        limit = self.open[sequence.id][1]
        family = [sequence]
        while sequence.slots > 1:
            self.serial += 1
            child = sequence.fork(self.serial)
            self.scheduler.fork(sequence, child)
            self.open[child.id] = child, limit
            family.append(child)
        for member in family:
            # Half of the drafts are right; each sibling goes its own way.
            for draft in drafts[: len(drafts) // 2]:
                member.tokens.append(draft)
                member.num_computed += 1
            member.tokens.append(member.id % 3)
            if len(member.tokens) >= limit:
                self.cancel(member)

    def check_memory(self, sequence: Sequence) -> None:
        size = self.blocks.block_size
        for g, (pool, table) in enumerate(zip(self.blocks.pools, sequence.tables, strict=True)):
            first = 0 if pool.window is None else max(0, sequence.num_computed - pool.window + 1)
            for p in range(first, sequence.num_computed):
                assert table[p // size] != GONE, "a block inside the window was given up"
                expected = sequence.root, tuple(sequence.tokens[: p + 1])
                assert self.memory[g, table[p // size], p % size] == expected

    def check_blocks(self) -> None:
        for g, pool in enumerate(self.blocks.pools):
            held = Counter(
                block for s in self.scheduler.running for block in s.tables[g] if block != GONE
            )
            assert held == Counter({b: n for b, n in enumerate(pool.refs) if n})
            free = [*pool.free, *pool.idle]
            assert len(free) == len(set(free))
            assert set(free) | set(held) == set(range(pool.num_blocks))
            assert not set(free) & set(held)
            assert all(pool.hash_of[b] is None for b in pool.free)
            assert all(pool.hash_of[b] is not None for b in pool.idle)
            assert {h: b for b, h in enumerate(pool.hash_of) if h is not None} == pool.by_hash

    def check_slots(self) -> None:
        scheduler = self.scheduler
        assert scheduler.num_slots == sum(s.slots for s in scheduler.running)
        assert scheduler.num_slots <= scheduler.max_sequences
        assert [s.key for s in scheduler.running] == sorted(s.key for s in scheduler.running)
        waiting = [s for s, _ in self.open.values() if s.status is Status.WAITING]
        assert scheduler.num_waiting == len(waiting)
        assert all(not s.tables and not s.num_computed for s in waiting)

    def drain(self, most: int = 3000) -> None:
        while not self.scheduler.idle:
            self.step()
            most -= 1
            assert most, "somebody starves"
        assert not self.open
        assert self.blocks.num_used() == 0


class Machine(RuleBasedStateMachine):
    windows: tuple[int | None, ...] = (None,)

    def __init__(self) -> None:
        super().__init__()
        self.world = World(windows=self.windows)

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=14),
        more=st.integers(1, 8),
        tenant=st.sampled_from("ab"),
        priority=st.integers(-2, 2),
        slots=st.integers(1, 3),
        deadline=st.none() | st.integers(1, 12),
    )
    def add(
        self,
        prompt: list[int],
        more: int,
        tenant: str,
        priority: int,
        slots: int,
        deadline: int | None,
    ) -> None:
        due = None if deadline is None else self.world.now + deadline
        self.world.add(prompt, more, tenant=tenant, priority=priority, slots=slots, deadline=due)

    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        if self.world.open:
            sequences = [s for s, _ in self.world.open.values()]
            self.world.cancel(sequences[which % len(sequences)])

    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.world.step()

    @rule(which=st.integers(0, 3), drafts=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def draft(self, which: int, drafts: list[int]) -> None:
        running = self.world.scheduler.running
        if which < len(running) and running[which].num_uncomputed == 1 == running[which].slots:
            sequence = running[which]
            room = self.world.open[sequence.id][1] - len(sequence.tokens) - 1
            sequence.drafts = drafts[: max(0, room)]

    @rule()
    def forget(self) -> None:
        self.world.blocks.forget_all()

    @invariant()
    def accounts(self) -> None:
        self.world.check_blocks()
        self.world.check_slots()

    def teardown(self) -> None:
        self.world.drain()
        self.world.check_blocks()


class WindowedMachine(Machine):
    windows = (None, 3)


class OnlyWindowsMachine(Machine):
    windows = (5, 2)


QUICK = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

TestMachine = Machine.TestCase
TestMachine.settings = QUICK
TestWindowedMachine = WindowedMachine.TestCase
TestWindowedMachine.settings = QUICK
TestOnlyWindowsMachine = OnlyWindowsMachine.TestCase
TestOnlyWindowsMachine.settings = QUICK


def test_decodes_come_before_prompts() -> None:
    world = World(max_rows=4, num_blocks=40, max_sequences=4)
    first = world.add([1], 20)
    world.step()
    world.add([1] * 20, 2)
    plan = world.step()
    assert plan.sequences[0] is first
    assert plan.num_rows == 4, "the prompt takes what the decode leaves of the budget"


def test_a_prompt_is_computed_in_chunks_of_the_budget() -> None:
    world = World(max_rows=4, num_blocks=40)
    sequence = world.add([1] * 10, 1)
    assert [world.step().num_rows for _ in range(3)] == [4, 4, 2]
    assert sequence.status is Status.FINISHED


def test_a_common_prefix_is_computed_once() -> None:
    world = World(num_blocks=40, max_rows=32)
    world.add([1, 0, 1, 1, 0, 1], 1)
    world.drain()
    plan_rows = []
    world.add([1, 0, 1, 1, 0, 0], 1)
    while not world.scheduler.idle:
        plan_rows.append(world.step().num_rows)
    assert plan_rows == [2], "two blocks of two tokens were known"


def test_tenants_share_no_block() -> None:
    world = World(num_blocks=40, max_rows=32)
    world.add([1] * 8, 1, tenant="a")
    world.drain()
    world.add([1] * 8, 1, tenant="b")
    assert world.step().num_rows == 8


def test_the_longest_unused_prefix_is_forgotten_first() -> None:
    world = World(num_blocks=8, max_rows=32)
    for token in (0, 1, 0):  # the first is used again, so the second is the older
        world.add([token] * 6, 1)
        world.drain()
    world.add([2] * 11, 1)  # needs six of the eight blocks
    world.drain()
    lookup = [world.blocks.lookup(Sequence(99, [t] * 6, root=root_hash(""))) for t in (0, 1)]
    assert lookup[0] > lookup[1]


def test_a_smaller_number_is_sooner_and_nobody_waits_for_ever() -> None:
    world = World(max_sequences=1, patience=3)
    world.add([1], 1)
    late = world.add([1], 1, priority=1)
    started = []
    for _ in range(12):
        world.add([1], 1)
        plan = world.step()
        started += [s.id for s, _ in plan.started]
    assert late.id in started, "three later arrivals may pass it, not all"
    assert started.index(late.id) >= 3


def test_a_tenant_with_many_requests_does_not_delay_another() -> None:
    world = World(max_sequences=2, num_blocks=40)
    for _ in range(50):
        world.add([1] * 4, 4, tenant="many")
    world.step()
    few = world.add([1] * 4, 4, tenant="few")
    order = []
    while few.status is not Status.FINISHED:
        order += [s.tenant for s, _ in world.step().started]
    assert len(order) <= 3, order


def test_service_is_even_however_much_is_asked() -> None:
    world = World(max_sequences=4, num_blocks=60, max_rows=8)
    served: Counter[str] = Counter()
    asking = random.Random(1)
    for _ in range(600):
        for tenant, chance in (("a", 1.0), ("b", 0.5)):
            if asking.random() < chance:
                world.add([asking.randrange(2) for _ in range(6)], 6, tenant=tenant)
        for sequence in world.scheduler.schedule(0).sequences:
            served[sequence.tenant] += sequence.num_scheduled
            rows, sequence.num_scheduled = sequence.num_scheduled, 0
            sequence.num_computed += rows
            world.blocks.commit(sequence, sequence.num_computed)
            if not sequence.num_uncomputed:
                sequence.tokens.append(0)
                if len(sequence.tokens) >= 12:
                    world.cancel(sequence)
    assert served["a"] == pytest.approx(served["b"], rel=0.1), served


def test_equal_inputs_give_equal_schedules() -> None:
    def history() -> list[object]:
        rng, world, log = random.Random(5), World(), []
        for _ in range(200):
            if rng.random() < 0.4:
                prompt = [rng.randrange(2) for _ in range(rng.randrange(1, 12))]
                world.add(prompt, rng.randrange(1, 8), tenant=rng.choice("abc"))
            plan = world.step()
            log.append(([(s.id, list(s.tables)) for s in plan.sequences], plan.num_rows))
        return log

    assert history() == history()


def test_a_hundred_thousand_may_wait_and_be_cancelled() -> None:
    world = World(max_sequences=2)
    sequences = [world.add([1], 1, tenant=str(i % 1000)) for i in range(100_000)]
    for sequence in sequences[10:]:
        world.cancel(sequence)
    world.drain()
    assert world.scheduler._tenants.num_waiting == 0
    assert sum(len(t.heap) for t in world.scheduler._tenants._all.values()) == 0


def test_the_end_of_a_prefix_is_forgotten_before_its_beginning() -> None:
    world = World(num_blocks=8, max_rows=32)
    world.add([0, 1, 0, 1, 0, 1, 0, 1], 1)
    world.drain()
    world.add([1] * 9, 1)  # five blocks, where four are free
    world.drain()
    again = Sequence(99, [0, 1, 0, 1, 0, 1, 0, 1, 0], root=root_hash(""))
    assert world.blocks.lookup(again) == 3


def test_a_prompt_is_not_started_on_blocks_that_another_was_promised() -> None:
    world = World(num_blocks=12, max_rows=4, max_sequences=4)
    world.add([0] * 14, 1)
    world.add([1] * 14, 1)
    started = [s.id for _ in range(3) for s, _ in world.step().started]
    assert started == [1], "seven and seven blocks are more than twelve"
    world.drain()
    assert world.scheduler.num_preemptions == 0
