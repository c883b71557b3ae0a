"""One program out of several ranks of this process, each stepped in a thread of its own.

The strategy says what each rank's part of the model is and how the ranks talk; to the engine all of
them together are a program like any other. It knows threads and block tables, and nothing of how a
model is split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llama_core.contracts.backend import Backend
from llama_core.contracts.parallelism import Strategy
from llama_core.contracts.program import KVGroup, KVLayout, Program
from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.step import Batch, Output, Plan
from llama_core.engine.faults import ProgramFault
from llama_core.errors import ConfigError, LlamaError
from llama_core.model import rewrites
from llama_core.model.graph import Graph
from llama_core.model.programs import Done
from llama_core.model.weights import Weights

GRACE_SECONDS = 1.0  # for the other ranks to refuse a batch that one has refused


@dataclass(frozen=True, slots=True)
class Parallel:
    """How a model is to be split: a strategy by name, and the device of each rank."""

    strategy: str
    devices: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def compile_ranks(
    strategy: Strategy,
    backend: Backend,
    graph: Graph,
    weights: Weights,
    plan: Plan,
    devices: Sequence[str],
    made: Sequence[Rewrite] = (),
) -> RankedProgram:
    """Split, compile every part, and join them. `made` are rewrites of each part, after a split."""
    size = len(devices)
    if plan.adapter_slots:
        raise ConfigError(
            f"a model split over {size} ranks takes no adapters yet, and the plan has "
            f"{plan.adapter_slots} slots for them",
            remedy="Set adapter_slots to 0.",
        )
    threads = [ThreadPoolExecutor(1, f"llama-rank-{rank}") for rank in range(size)]
    programs: list[Program] = []
    try:
        # Together, since an end of the line may wait for the others. What is compiled is not.
        calls = [thread.submit(strategy.communicator, r, size) for r, thread in enumerate(threads)]
        lines = [call.result() for call in calls]
        for rank, line in enumerate(lines):
            own = [*made, *strategy.rewrites(rank, size)]
            part, its = rewrites.apply(own, graph, weights)
            its_plan = replace(
                plan, devices=(devices[rank],), rank=rank, world_size=size, communicator=line
            )
            programs.append(threads[rank].submit(backend.compile, part, its, its_plan).result())
    except BaseException:
        for program in programs:
            program.close()
        for thread in threads:
            thread.shutdown(wait=False)
        raise
    return RankedProgram(programs, threads, graph.vocab_size)


class RankedProgram:
    """The ranks' programs as one. Blocks have the same ids on every rank."""

    samples: frozenset[str] = frozenset()  # only the last rank has logits to sample from

    def __init__(
        self, programs: Sequence[Program], threads: Sequence[ThreadPoolExecutor], vocab_size: int
    ) -> None:
        self.vocab_size = vocab_size
        bitwise = all(one.invariance == "bitwise" for one in programs)
        self.invariance: Literal["bitwise", "none"] = "bitwise" if bitwise else "none"
        self.kv = joined([one.kv for one in programs])
        self._programs = programs
        self._threads = threads
        windows = [group.window for group in self.kv.groups]
        # For each rank, which of our groups each of its own is.
        self._ours = [[windows.index(g.window) for g in one.kv.groups] for one in programs]
        self._ended: ProgramFault | None = None  # why it takes no more steps

    def submit(self, batch: Batch) -> Done:
        """Run the step on every rank; the last one has what the rows gave."""
        if self._ended is not None:
            raise self._ended
        calls = []
        for program, thread, ours in zip(self._programs, self._threads, self._ours, strict=True):
            its = replace(batch, blocks_G=tuple(batch.blocks_G[group] for group in ours))
            calls.append(thread.submit(_step, program, its))
        wait(calls, return_when=FIRST_EXCEPTION)
        failed = [rank for rank, call in enumerate(calls) if call.done() and call.exception()]
        if failed:
            raise self._fault(calls, failed[0])
        return Done(calls[-1].result())

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        for program, thread, ours in zip(self._programs, self._threads, self._ours, strict=True):
            its = [(ours.index(g), a, b) for g, a, b in pairs if g in ours]
            thread.submit(program.copy_blocks, its).result()

    def close(self) -> None:
        closed = ProgramFault("the program is closed", remedy="Load the model again.")
        self._ended = self._ended or closed
        for program in self._programs:
            program.close()
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)

    def _fault(self, calls: Sequence[Future[Output]], rank: int) -> BaseException:
        """What all ranks refused leaves the line as it was; what one failed at does not."""
        error = calls[rank].exception()
        assert error is not None
        wait(calls, GRACE_SECONDS)
        refused = all(
            call.done()
            and isinstance(call.exception(), LlamaError)
            and type(call.exception()) is type(error)
            for call in calls
        )
        if refused:
            return error
        self._ended = ProgramFault(
            f"rank {rank} of {len(calls)} failed in a step, and the others waited for it: {error}",
            remedy="Load the model again.",
        )
        self._ended.__cause__ = error
        return self._ended


def joined(layouts: Sequence[KVLayout]) -> KVLayout:
    """The memory of all ranks: their groups by window, and as many blocks as each of them has."""
    holding = [layout for layout in layouts if layout.groups] or layouts
    groups: dict[int | None, KVGroup] = {}
    for group in (one for layout in holding for one in layout.groups):
        known = groups.get(group.window)
        layers = {*group.layers, *(known.layers if known else ())}
        total = group.bytes_per_token + (known.bytes_per_token if known else 0)
        groups[group.window] = KVGroup(tuple(sorted(layers)), group.window, total)
    return KVLayout(
        tuple(groups.values()),
        holding[0].block_size,
        min(one.num_blocks for one in holding),
        holding[0].context_length,
    )


def _step(program: Program, batch: Batch) -> Output:
    return program.submit(batch).result()
