"""Whatever shares the engine with a request, its tokens are those it would have got alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from llama_core.builtin.ngram import NgramLookup
from llama_core.engine.engine import Engine
from llama_core.engine.request import Link, Request, Update

from .toy import (
    SAMPLED,
    Clock,
    Heard,
    Letters,
    Sampling,
    Toy,
    ask,
    collect,
    create,
    drain,
    make,
    run,
)

Solo = Callable[[Request], dict[int, Heard]]


def some_request(rng: random.Random, number: int) -> Request:
    prompt = [rng.randrange(1, 4) for _ in range(rng.choice((1, 2, 5, 9, 14, 30)))]
    options: dict[str, Any] = {"max_tokens": rng.randrange(1, 14), "seed": rng.randrange(2**64)}
    kind = rng.randrange(8)
    if kind < 3:
        options |= SAMPLED
    if kind == 3:
        options |= {"sampler": Link("mirostat"), "transforms": (Link("repetition"),)}
    if kind == 4:
        options |= {"logprobs": 2, "prompt_logprobs": 1}
    if kind == 5:
        options = {"pooling": rng.choice(("mean", "last")), "max_tokens": None}
    elif rng.random() < 0.4:
        options["n"] = rng.randrange(1, 4)
    if kind != 5 and rng.random() < 0.3:
        options["stop"] = (rng.choice(("ab", "cd", "e", "xyz")),)
    if kind != 5 and rng.random() < 0.2:
        options["answer"] = tuple(rng.randrange(1, 9) for _ in range(rng.randrange(1, 6)))
    return ask(
        f"r{number}",
        prompt,
        tenant=rng.choice(("", "a", "b")),
        priority=rng.randrange(-1, 2),
        adapter=rng.choice((-1, -1, 0, 1)),
        **options,
    )


def alone(
    program: type[Toy], windows: tuple[int | None, ...], request: Request
) -> dict[Any, Heard]:
    """The plainest way: one step for the whole prompt, no neighbour, plenty of memory."""
    engine = make(
        program(512, windows=windows),
        tokenizer=Letters(),
        eos=frozenset({0}),
        adapter_slots=2,
        max_rows=512,
        max_length=200,
    )
    return run(engine, request)


def same(heard: Heard, expected: Heard) -> None:
    assert heard.tokens == expected.tokens
    assert heard.text == expected.text
    assert heard.finish == expected.finish
    told, due = [
        (
            [p for u in h.updates for p in u.logprobs],
            [u.prompt_logprobs for u in h.updates if u.prompt_logprobs],
            [u.hidden.tolist() for u in h.updates if u.hidden is not None],
        )
        for h in (heard, expected)
    ]
    assert told == due


def storm(seed: int, program: type[Toy], windows: tuple[int | None, ...], draft: bool) -> None:
    rng = random.Random(seed)
    clock = Clock()
    toy = program(rng.choice((20, 24, 40)), block_size=rng.choice((1, 3, 4)), windows=windows)
    if toy.kv.block_size == 1:
        toy = program(80, block_size=1, windows=windows)
    toy.fail_in = {rng.randrange(1, 200) for _ in range(rng.choice((0, 0, 3)))}
    engine = make(
        toy,
        tokenizer=Letters(),
        eos=frozenset({0}),
        adapter_slots=2,
        clock=clock,
        drafter=NgramLookup() if draft else None,
        max_rows=rng.choice((4, 7, 16, 64)),
        max_sequences=rng.choice((3, 5, 8)),
        max_length=60,
    )
    requests: dict[str, Request] = {}
    cancelled: set[str] = set()
    updates: list[Update] = []
    for number in range(40):
        request = some_request(rng, number)
        if rng.random() < 0.1:
            request = Request(
                **{f: getattr(request, f) for f in Request.__slots__} | {"deadline_seconds": 5.0}
            )
        requests[request.id] = request
        engine.add(request)
        for _ in range(rng.choice((0, 0, 1, 3, 9))):
            updates += engine.step()
            clock.now += 0.5
        if rng.random() < 0.25:
            victim = rng.choice(list(requests))
            if engine.cancel(victim):
                cancelled.add(victim)
    updates += drain(engine)

    heard = collect(updates)
    assert {name for name, _ in heard} == set(requests), "somebody got no answer"
    for (name, choice), answer in heard.items():
        assert answer.finish is not None
        assert sum(u.last for u in updates if u.request_id == name) == 1
        expected = alone(program, windows, requests[name])[name, choice]
        if answer.finish in ("stop", "length"):
            same(answer, expected)
        else:
            assert answer.finish in ("cancelled", "deadline", "error")
            assert expected.tokens[: len(answer.tokens)] == answer.tokens
            if answer.finish == "error":
                assert toy.fail_in, answer.error
            if answer.finish == "cancelled":
                assert name in cancelled


@pytest.mark.parametrize("windows", [(None,), (None, 6), (6, 3)], ids=str)
@pytest.mark.parametrize("program", [Toy, Sampling])
@pytest.mark.parametrize("draft", [False, True], ids=["plain", "drafts"])
def test_batched_tokens_are_solo_tokens(
    windows: tuple[int | None, ...], program: type[Toy], draft: bool
) -> None:
    for seed in range(5):
        storm(seed, program, windows, draft)


def test_the_storm_meets_what_it_is_meant_to_meet() -> None:
    toy = Toy(20)
    engine: Engine = make(toy, max_rows=16, max_sequences=8, max_length=60)
    rng = random.Random(3)
    for number in range(30):
        prompt = [rng.randrange(1, 4) for _ in range(14)]
        engine.add(ask(f"r{number}", prompt, n=1 + number % 3, max_tokens=13, **SAMPLED))
    drain(engine)
    assert engine.scheduler.num_preemptions > 0
    assert engine.counters.prefix_hits > 0
    assert create("sampler", "greedy", {})
