"""A program whose attention looks both ways: a text comes in one step, whole, or is refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest

from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output
from llama_core.engine.faults import ContextOverflow, InvalidRequest

from .toy import Clock, Ready, ask, collect, drain, make, mix, run


class BothWays:
    """Each hidden state depends on every token of the text, behind it and before it."""

    invariance: Literal["bitwise", "none"] = "bitwise"
    whole: Literal[True] = True
    vocab_size = 32

    def __init__(self, groups: int = 0) -> None:
        self.kv = KVLayout(tuple(KVGroup((i,), None, 8) for i in range(groups)), 4, 12)
        self.steps: list[int] = []

    def submit(self, batch: Batch) -> Ready:
        starts = batch.starts_S1.tolist()
        self.steps.append(len(starts) - 1)
        states = []
        for start, stop in pairwise(starts):
            places = batch.positions_T[start:stop]
            assert places.tolist() == list(range(stop - start)), "not from its beginning"
            text = hash(tuple(batch.tokens_T[start:stop].tolist())) % 2**64
            with np.errstate(over="ignore"):
                bits = mix(np.uint64(text) + places.astype(np.uint64)[:, None] * np.uint64(77))
            states += list((bits >> np.uint64(40)).astype(np.float32) / 2**24 * np.ones(4))
        wanted = np.flatnonzero(batch.want_T == 2)
        hidden = np.array(states, np.float32)[wanted] if len(wanted) else None
        return Ready(Output(hidden_RD=hidden))

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        raise AssertionError("nothing is ever shared")

    def close(self) -> None:
        """There is nothing to give back."""


def embed(name: str, prompt: Sequence[int], **options: Any) -> Any:
    return ask(name, prompt, pooling="mean", max_tokens=None, **options)


@pytest.mark.parametrize("groups", [0, 1])
def test_texts_are_never_cut_whatever_shares_the_step(groups: int) -> None:
    rng = random.Random(3)
    texts = [[rng.randrange(1, 5) for _ in range(rng.randrange(1, 17))] for _ in range(40)]
    texts[7] = texts[3]  # what is cached of a text is of no use: it depended on the rest
    texts[8] = texts[3] + [1]
    program = BothWays(groups)
    engine = make(program, max_rows=16, max_sequences=5)
    together = run(engine, *(embed(f"r{n}", text) for n, text in enumerate(texts)))
    for n, text in enumerate(texts):
        alone = run(make(BothWays(groups), max_rows=16), embed("r", text))["r", 0]
        assert (together[f"r{n}", 0].updates[-1].hidden == alone.updates[-1].hidden).all()
        assert together[f"r{n}", 0].updates[-1].usage.cached_tokens == 0
    assert max(program.steps) > 1, "several texts did share a step"
    assert engine.counters.prefix_queries == 0


def test_a_text_that_no_step_holds_is_refused() -> None:
    engine = make(BothWays(), max_rows=16)
    with pytest.raises(ContextOverflow, match="may have 16 tokens, and the prompt has 17") as error:
        engine.add(embed("r", [1] * 17))
    assert "Shorten it by 1" in str(error.value)
    assert run(engine, embed("r", [1] * 16))["r", 0].finish == "stop"


def test_a_text_is_not_continued() -> None:
    with pytest.raises(InvalidRequest, match="as a whole") as error:
        make(BothWays()).add(ask())
    assert error.value.param == "pooling"


def test_a_long_text_is_not_passed_by_short_ones_for_ever() -> None:
    clock = Clock()
    engine = make(BothWays(), max_rows=16, clock=clock)
    updates = []
    engine.add(embed("first", [1] * 9))
    engine.add(embed("long", [2] * 16))
    for number in range(6):
        engine.add(embed(f"short{number}", [3, 4]))
        updates += engine.step()
    order = list(dict.fromkeys(u.request_id for u in updates + drain(engine)))
    assert order.index("long") == 1
    assert set(collect(updates)) >= {("long", 0)}
