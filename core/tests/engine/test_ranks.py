"""Several ranks as one program: memory by window, the same answers, one error for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llama_core.builtin.in_process import lines
from llama_core.builtin.reference import Reference
from llama_core.config import Config
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.discovery import discover
from llama_core.engine.engine import Engine
from llama_core.engine.ranks import RankedProgram, compile_ranks, joined
from llama_core.engine.request import Limits, Link, Params, Request
from llama_core.errors import LlamaError
from llama_core.model import rewrites
from llama_core.plugins import Plugins
from llama_core.testing import tiny

PLAN = Plan(kv_bytes=1 << 18, block_size=4)
PROMPT = tuple(range(1, 24))


class InThreads:
    def __init__(self, name: str, world_size: int) -> None:
        self.name = name
        self.ends = lines(world_size)

    def rewrites(self, rank: int, world_size: int) -> list[Any]:
        return [rewrites.create(self.name, {"rank": rank, "world_size": world_size})]

    def communicator(self, rank: int, world_size: int) -> Any:
        return self.ends[rank]


def split(variant: str, name: str, **plan: Any) -> RankedProgram:
    graph, weights = tiny.model(variant)
    its = Plan(kv_bytes=PLAN.kv_bytes, block_size=PLAN.block_size, **plan)
    return compile_ranks(InThreads(name, 2), Reference(), graph, weights, its, ("cpu", "cpu"))


def answers(program: Any) -> list[list[int]]:
    """Two requests in one batch, one of them three ways, with prompts longer than a window."""
    engine = Engine(
        program, Limits(max_rows=8, max_length=64), plugins=Plugins(discover([]), Config())
    )
    engine.add(Request("a", PROMPT, Params(max_tokens=12)))
    sampled = Params(max_tokens=12, n=3, sampler=Link("sample"), seed=1)
    engine.add(Request("b", PROMPT[::-1], sampled))
    found: dict[tuple[str, int], list[int]] = {}
    while engine.has_work:
        for update in engine.step():
            assert update.error is None
            found.setdefault((update.request_id, update.choice), []).extend(update.tokens)
    assert engine.blocks.num_used() == 0
    engine.close()
    return [found[key] for key in sorted(found)]


@pytest.mark.parametrize("variant", ["llama", "gemma2", "mixtral"])
@pytest.mark.parametrize("name", ["tensor", "pipeline"])
def test_two_ranks_answer_as_one(variant: str, name: str) -> None:
    """Gemma's layers look back differently far, so that a stage has not all of the groups."""
    graph, weights = tiny.model(variant)
    assert answers(split(variant, name)) == answers(Reference().compile(graph, weights, PLAN))


def test_memory_is_joined_by_window() -> None:
    local, whole = KVGroup((0, 2), 5, 10), KVGroup((1,), None, 20)
    first, second = KVLayout((local,), 4, 9), KVLayout((whole, KVGroup((4,), 5, 10)), 4, 7)
    assert joined([first, KVLayout((), 4, 1), second]) == KVLayout(
        (KVGroup((0, 2, 4), 5, 20), whole), 4, 7
    )


def batch(tokens: list[int]) -> Batch:
    """One new sequence, of which the last row gives logits."""
    count = len(tokens)
    want_T = np.zeros(count, np.uint8)
    want_T[-1] = Want.LOGITS
    places_T = np.arange(count, dtype=np.int32)
    starts_S1 = np.array([0, count], np.int32)
    return Batch(np.array(tokens, np.int32), places_T, starts_S1, (([0, 1],),), want_T)


def test_a_batch_that_all_refuse_leaves_the_line_as_it_was() -> None:
    program = split("llama", "tensor")
    first = program.submit(batch([1, 2, 3])).result().logits_RV
    with pytest.raises(LlamaError, match="1000"):
        program.submit(batch([1, 1000, 3]))
    assert np.array_equal(program.submit(batch([1, 2, 3])).result().logits_RV, first)
    program.close()
    with pytest.raises(LlamaError, match="closed"):
        program.submit(batch([1, 2, 3]))


def test_adapters_are_refused_rather_than_left_out() -> None:
    with pytest.raises(LlamaError, match="takes no adapters yet, and the plan has 2 slots"):
        split("llama", "tensor", adapter_slots=2, adapter_rank=4)


def test_what_was_compiled_is_closed_where_a_rank_cannot_be() -> None:
    closed: list[int] = []

    class Half(Reference):
        def compile(self, graph: Any, weights: Any, plan: Plan) -> Any:
            if plan.rank == 1:
                raise MemoryError("no more")
            program = super().compile(graph, weights, plan)
            program.close = lambda: closed.append(plan.rank)  # type: ignore[method-assign]
            return program

    graph, weights = tiny.model("llama")
    with pytest.raises(MemoryError):
        compile_ranks(InThreads("tensor", 2), Half(), graph, weights, PLAN, ("cpu", "cpu"))
    assert closed == [0]
