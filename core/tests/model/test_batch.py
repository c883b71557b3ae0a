"""The check that every batch passes: nothing out of range gets by, and what fits is not refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Plan
from llama_core.model import batch as batches
from llama_core.model.batch import BatchError, check

from .small import Driver, model

KV = KVLayout((KVGroup((0,), None, 8), KVGroup((1,), 5, 8)), 4, 9, context_length=30)
PLAN = Plan(max_tokens=64, max_sequences=8)


def ints(*values: int) -> Any:
    return np.array(values, np.int32)


def batch(spans: list[tuple[int, int]]) -> Batch:
    """Sequences of (first position, rows), with blocks for all of it."""
    rows = sum(n for _, n in spans)
    tables = tuple([(3 * i) % 9 for i in range((first + n) // 4 + 1)] for first, n in spans)
    return Batch(
        np.zeros(rows, np.int32),
        ints(*(first + i for first, n in spans for i in range(n))),
        np.cumsum([0, *(n for _, n in spans)], dtype=np.int32),
        (tables, tables),
        np.zeros(rows, np.uint8),
    )


def plainly(one: Batch, kv: KVLayout) -> bool:
    """Whether every place is there, asked one at a time."""
    starts = one.starts_S1.tolist()
    for s, (a, b) in enumerate(pairwise(starts)):
        positions = one.positions_T[a:b].tolist()
        for i, position in enumerate(positions):
            if not 0 <= position < 30 or position != positions[0] + i:
                return False
            for group, tables in zip(kv.groups, one.blocks_G, strict=True):
                low = 0 if group.window is None else max(0, position - group.window + 1)
                for place in range(low, position + 1):
                    table = tables[s]
                    if place // 4 >= len(table) or not 0 <= table[place // 4] < 9:
                        return False
    return True


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 28), st.integers(0, 4)), max_size=4),
    odd=st.none() | st.tuples(st.sampled_from("pbt"), st.integers(0, 20), st.integers(-2, 31)),
)
def test_what_passes_is_all_there_and_what_is_there_passes(
    spans: list[tuple[int, int]], odd: tuple[str, int, int] | None
) -> None:
    """`odd` changes a position, a block or the length of a table."""
    one = batch(spans)
    if odd is not None and spans:
        kind, where, value = odd
        sequence = where % len(spans)
        if kind == "p" and len(one.positions_T):
            one.positions_T[where % len(one.positions_T)] = value
        table = list(one.blocks_G[1][sequence])
        if kind == "b":
            table[where % len(table)] = value
        if kind == "t":
            table = table[: max(0, value)]
        tables = [*one.blocks_G[1]]
        tables[sequence] = table
        one = replace(one, blocks_G=(one.blocks_G[0], tuple(tables)))
    try:
        check(one, 10, 0, KV, PLAN)
        fits = True
    except BatchError:
        fits = False
    assert fits == plainly(one, KV)


def test_tables_may_be_arrays() -> None:
    one = batch([(5, 1), (0, 3)])
    arrays = tuple(tuple(np.array(table) for table in tables) for tables in one.blocks_G)
    check(replace(one, blocks_G=arrays), 10, 0, KV, PLAN)  # type: ignore[arg-type]
    arrays[1][1][0] = 9
    with pytest.raises(BatchError, match=r"block 9 of 9 at place 0 of its table \(group 1\)"):
        check(replace(one, blocks_G=arrays), 10, 0, KV, PLAN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tokens_T": ints(0, 10)}, "row 1: token 10 is not within 0..9"),
        ({"tokens_T": ints(-1, 0)}, "row 0: token -1"),
        ({"tokens_T": ints(0)}, "starts [0, 1, 2] do not divide 1 rows"),
        ({"starts_S1": ints(0, 2, 1)}, "do not divide 2 rows"),
        ({"starts_S1": ints()}, "starts [] do not divide"),
        ({"want_T": np.array([0, 4], np.uint8)}, "row 1: wants 4"),
        ({"previous_T": ints(-1)}, "1 previous rows for 2 rows"),
        ({"adapters_S": ints(0, -1)}, "sequence 0: adapter slot 0 of 0"),
        ({"embeddings_TD": np.zeros((2, 3), np.float32)}, "embeddings of [2, 3], hidden size 0"),
        ({"sampling_S": (None,)}, "1 sampling chains for 2 sequences"),
        ({"blocks_G": (([0], [0]),)}, "block tables for 1 of 2 layer groups"),
        ({"tokens_T": np.array([0, 2**32 + 1])}, "tokens are int64[2], and a batch has one row"),
        ({"positions_T": np.array([0.5, 7])}, "positions are float64[2]"),
        ({"tokens_T": np.zeros((2, 1), np.int32)}, "tokens are int32[2, 1]"),
        ({"want_T": np.array([0, 256])}, "wants are int64[2], and a batch has one row of uint8"),
        ({"blocks_G": (([2**32], [0, 3]),) * 2}, "block 4294967296 of 9 at place 0"),
    ],
)
def test_the_first_word_on_what_is_wrong(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(BatchError) as refused:
        check(replace(batch([(0, 1), (7, 1)]), **changed), 10, 0, KV, PLAN)
    assert says in str(refused.value)


def test_tokens_from_elsewhere_need_not_be_tokens() -> None:
    one = replace(batch([(0, 1), (7, 1)]), tokens_T=ints(-1, 99))
    check(replace(one, previous_T=ints(0, 1)), 10, 0, KV, PLAN)
    vectors = np.zeros((2, 6), np.float32)
    with pytest.raises(BatchError, match="row 1: token 99") as refused:
        check(replace(one, embeddings_TD=vectors), 10, 6, KV, PLAN)
    assert len(refused.value.problems) == 1


def test_a_context_ends_where_the_model_was_made_to_end() -> None:
    """Dynamic and yarn scaling reach further, as they do in other programs; the rest does not."""
    graph, weights = model("llama", max_position_embeddings=16)
    driver = Driver(graph, weights)
    driver.step([(0, [1] * 16, 0)])
    with pytest.raises(BatchError, match="position 16, and the model's context ends at 16"):
        driver.step([(0, [1], 16)])
    assert driver.program.kv.context_length == 16
    for scaling, reach in (
        ({"rope_type": "dynamic", "factor": 2.5}, 40),
        ({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 8}, 32),
        ({"rope_type": "linear", "factor": 4}, 16),
    ):
        longer = model("llama", max_position_embeddings=16, rope_scaling=scaling)[0]
        assert longer.context_length == reach
        asked = model("llama", context_length=24, rope_scaling=scaling)[0]
        assert asked.context_length == 24


def test_many_problems_are_counted() -> None:
    with pytest.raises(BatchError, match="and 2 more") as refused:
        check(replace(batch([(0, 10)]), tokens_T=np.full(10, 99, np.int32)), 10, 0, KV, PLAN)
    assert len(refused.value.problems) == batches.LISTED + 2
