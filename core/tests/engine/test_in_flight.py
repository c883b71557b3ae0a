"""Two steps under way at once: the same answers, the same accounts, whatever ends or fails between.

The program here computes nothing before it has to, in the order it was asked, and copies what a
batch shows it; so a step that was planned too early, or on a block given away too soon, shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.contracts.step import Batch, Output, Plan
from llama_core.engine.load import load
from llama_core.engine.request import Link, Params, Update
from llama_core.errors import ConfigError, LlamaError
from llama_core.plugins import Plugins

from .test_solo_equals_batched import alone, same, some_request
from .tinymodel import tiny_model
from .toy import SAMPLED, Clock, Letters, Sampling, ask, collect, drain, make, run


class Late(Sampling):
    """Does what it is asked when a result is read, oldest first."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.todo: list[Promise | Sequence[tuple[int, int, int]]] = []
        self.sampled: list[int] = []
        self.most_under_way = 0
        self.num_continued = 0

    def submit(self, batch: Batch) -> Any:
        tables = tuple(tuple(list(table) for table in group) for group in batch.blocks_G)
        promise = Promise(self, replace(batch, blocks_G=tables))
        self.todo.append(promise)
        under_way = sum(isinstance(each, Promise) for each in self.todo)
        self.most_under_way = max(self.most_under_way, under_way)
        return promise

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        self.todo.append(list(pairs))

    def catch_up(self, until: Promise) -> None:
        while until in self.todo:
            each = self.todo.pop(0)
            if isinstance(each, Promise):
                each.keep()
            else:
                super().copy_blocks(each)

    def compute(self, batch: Batch) -> Output:
        if batch.previous_T is not None:
            tokens = batch.tokens_T.copy()
            for row in np.flatnonzero(batch.previous_T >= 0).tolist():
                tokens[row] = max(0, self.sampled[batch.previous_T[row]])
                self.num_continued += 1
            batch = replace(batch, tokens_T=tokens)
        assert (batch.tokens_T >= 0).all(), "a token that nobody knows"
        output = super().submit(batch).output
        self.sampled = [-1] * len(batch.tokens_T)
        if output.tokens_R is not None:
            for row, token in zip(np.flatnonzero(batch.want_T == 3), output.tokens_R, strict=True):
                self.sampled[row] = int(token)
        return output


class Promise:
    def __init__(self, program: Late, batch: Batch) -> None:
        self.program = program
        self.batch = batch
        self.output: Output | None = None
        self.error: Exception | None = None

    def keep(self) -> None:
        try:
            self.output = self.program.compute(self.batch)
        except RuntimeError as error:
            self.error = error

    def result(self) -> Output:
        self.program.catch_up(self)
        if self.error is not None:
            raise self.error
        assert self.output is not None
        return self.output


def test_the_second_step_is_submitted_before_the_first_is_read() -> None:
    program = Late()
    answer = run(make(program, in_flight=2), ask(seed=5, max_tokens=9, **SAMPLED))["r", 0]
    assert answer.tokens == run(make(), ask(seed=5, max_tokens=9, **SAMPLED))["r", 0].tokens
    assert program.most_under_way == 2
    assert program.num_continued == 8, "each token but the last went on within the program"
    assert program.num_rows == 3 + 8, "nothing is computed behind an end that can be foreseen"


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_more_than_two_are_ever_needed(in_flight: int) -> None:
    program = Late()
    run(make(program, in_flight=in_flight), ask(**SAMPLED), ask("b", **SAMPLED))
    assert program.most_under_way == min(in_flight, 2)


def test_the_plan_says_how_many(tmp_path: Path) -> None:
    folder, tokens = tiny_model(tmp_path / "tiny"), []
    for count in (1, 2):
        plan = Plan(kv_bytes=1 << 20, in_flight=count)
        with load(folder, plugins=Plugins.load(), backend="reference", plan=plan) as model:
            assert model.engine.engine.in_flight == count
            request = model.request("Once", Params(max_tokens=9))
            tokens.append(model.engine.generate(request).choices[0].tokens)
    assert tokens[0] == tokens[1]
    with pytest.raises(ConfigError, match="in_flight must be at least 1, not 0"):
        make(in_flight=0)


def test_an_end_seen_late_costs_one_row_that_nobody_hears_of() -> None:
    free = run(make(), ask(max_tokens=20))["r", 0].tokens
    end = free[6]
    program = Late()
    engine = make(program, in_flight=2, eos=frozenset({end}))
    answer = run(engine, ask(max_tokens=20))["r", 0]
    assert answer.tokens == free[: free.index(end) + 1]
    assert answer.finish == "stop"
    assert answer.updates[-1].usage.completion_tokens == len(answer.tokens)
    assert engine.counters.output_tokens == len(answer.tokens)
    assert program.num_rows == 3 + len(answer.tokens)


def test_what_is_chosen_here_is_waited_for() -> None:
    """A chain that has to run on the host takes part in every step all the same."""
    program = Late()
    engine = make(program, in_flight=2)
    engine.add(ask("there", max_tokens=12, **SAMPLED))
    engine.add(ask("here", max_tokens=12, sampler=Link("mirostat")))
    for _ in range(12):
        engine.step()
    assert program.most_under_way == 1
    answers = collect(drain(engine))
    assert answers == {}, "twelve steps were enough for both"


def test_a_long_prompt_is_read_ahead_too() -> None:
    program = Late()
    answer = run(make(program, in_flight=2, max_rows=4), ask(prompt=range(1, 30)))["r", 0]
    assert answer.tokens == run(make(), ask(prompt=range(1, 30)))["r", 0].tokens
    assert program.most_under_way == 2


@pytest.mark.parametrize("block_size", [1, 4])
def test_an_answer_is_remembered_as_a_prefix_all_the_same(block_size: int) -> None:
    cached = []
    for count in (1, 2):
        engine = make(Late(64, block_size=block_size), in_flight=count)
        first = run(engine, ask(max_tokens=30))["r", 0]
        again = run(engine, ask(prompt=[1, 2, 3, *first.tokens], max_tokens=1))["r", 0]
        cached.append(again.updates[-1].usage.cached_tokens)
    assert cached == [32, 32], "all but the end of 33 tokens"


class Ill(Late):
    """Samples no token for whoever starts with a 9, and may refuse to go on from one."""

    refuses = False

    def compute(self, batch: Batch) -> Output:
        output = super().compute(batch)
        rows = np.flatnonzero(batch.want_T == 3)
        for i, row in enumerate(rows.tolist()):
            s = int(np.searchsorted(batch.starts_S1, row, side="right")) - 1
            if self.memory[0, batch.blocks_G[0][s][0], 0] == 9000:
                assert output.tokens_R is not None
                output.tokens_R[i] = self.sampled[row] = -1
        return output

    def submit(self, batch: Batch) -> Any:
        if self.refuses and batch.previous_T is not None:
            self.catch_up(self.todo[-1])  # type: ignore[arg-type]
            rows = batch.previous_T[batch.previous_T >= 0]
            if any(self.sampled[row] < 0 for row in rows.tolist()):
                raise LlamaError("it continues a row that sampled no token")
        return super().submit(batch)


@pytest.mark.parametrize("refuses", [False, True])
def test_logits_that_are_none_end_one_request_where_steps_overlap(refuses: bool) -> None:
    program = Ill()
    program.refuses = refuses
    engine = make(program, in_flight=2)
    asked = [ask("ill", (9, 1), **SAMPLED), ask("well", (1, 2), seed=3, **SAMPLED)]
    answers = run(engine, *asked)
    assert "NaN" in str(answers["ill", 0].error)
    assert answers["well", 0].tokens == run(make(), asked[1])["well", 0].tokens
    assert engine.counters.program_faults == 0


def test_a_fault_ends_its_own_step_and_what_stood_on_it() -> None:
    program = Late()
    program.fail_in = {4}
    engine = make(program, in_flight=2, max_sequences=2)
    answers = run(engine, ask("a", **SAMPLED), ask("b", **SAMPLED), ask("late", (1, 2)))
    for name in "ab":
        assert answers[name, 0].error.code == "program_fault"
        assert len(answers[name, 0].tokens) == 3
    assert answers["late", 0].tokens == run(make(), ask("late", (1, 2)))["late", 0].tokens


def test_closing_waits_for_what_is_under_way() -> None:
    program = Late()
    engine = make(program, in_flight=2)
    engine.add(ask(max_tokens=20))
    engine.step()
    assert program.todo
    engine.close()
    assert not program.todo
    assert engine.blocks.num_used() == 0


def storm(seed: int, windows: tuple[int | None, ...]) -> int:
    """As in the storm of single steps; gives how many rows went on within the program."""
    rng = random.Random(seed)
    clock = Clock()
    program = Late(rng.choice((20, 24, 40)), block_size=rng.choice((3, 4)), windows=windows)
    program.fail_in = {rng.randrange(1, 200) for _ in range(rng.choice((0, 0, 3)))}
    engine = make(
        program,
        tokenizer=Letters(),
        eos=frozenset({0}),
        adapter_slots=2,
        clock=clock,
        in_flight=2,
        max_rows=rng.choice((4, 7, 16, 64)),
        max_sequences=rng.choice((3, 5, 8)),
        max_length=60,
    )
    requests, updates = {}, list[Update]()
    for number in range(40):
        request = some_request(rng, number)
        if rng.random() < 0.7:  # more of what can run ahead
            request = ask(
                request.id,
                request.prompt,
                max_tokens=rng.randrange(1, 20),
                seed=number,
                n=rng.choice((1, 1, 2)),
                **rng.choice(({}, SAMPLED)),
            )
        if rng.random() < 0.1:
            request = replace(request, deadline_seconds=5.0)
        requests[request.id] = request
        engine.add(request)
        for _ in range(rng.choice((0, 0, 1, 3, 9))):
            updates += engine.step()
            clock.now += 0.5
        if rng.random() < 0.25:
            engine.cancel(rng.choice(list(requests)))
    updates += drain(engine)
    for (name, choice), answer in collect(updates).items():
        expected = alone(Sampling, windows, requests[name])[name, choice]
        if answer.finish in ("stop", "length"):
            same(answer, expected)
        else:
            assert expected.tokens[: len(answer.tokens)] == answer.tokens
            assert answer.finish in ("cancelled", "deadline", "error")
            assert program.fail_in or answer.finish != "error", answer.error
    return program.num_continued


@pytest.mark.parametrize("windows", [(None,), (None, 6), (6, 3)], ids=str)
def test_a_storm_with_two_under_way(windows: tuple[int | None, ...]) -> None:
    assert sum(storm(seed, windows) for seed in range(6)) > 300


@pytest.mark.slow
def test_a_long_storm_with_two_under_way() -> None:
    for seed in range(100, 220):
        storm(seed, ((None,), (None, 6), (6, 3))[seed % 3])
