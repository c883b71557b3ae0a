"""The engine on native code: what shares a step, and where a chain runs, changes no token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llama_plugin_cpu.backend import CpuBackend

from llama_core.builtin.ngram import NgramLookup
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.engine.chains import standard
from llama_core.engine.engine import Engine
from llama_core.engine.faces import Result
from llama_core.engine.request import Limits, Link, Params, Request, Update
from llama_core.model import architectures
from llama_core.model.generated import random_weights
from llama_core.plugins import Plugins

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "sliding_window": 7,
    "query_pre_attn_scalar": 8,
}


class Watched:
    """A program, and how many of the rows it was given were to be sampled there."""

    def __init__(self, program: Any, *, samples: bool = True) -> None:
        self.program = program
        self.num_sampled = 0
        self.samples = program.samples if samples else frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def submit(self, batch: Batch) -> Any:
        self.num_sampled += int((batch.want_T == Want.TOKEN).sum())
        return self.program.submit(batch)


def program(kind: str = "llama", num_blocks: int = 200, kv_dtype: str = "f32") -> Any:
    graph = architectures.create(kind).build({**SIZES, "model_type": kind})
    plan = Plan(kv_bytes=1 << 22, kv_dtype=kv_dtype, block_size=4)
    roomy = CpuBackend().compile(graph, random_weights(graph, 0), plan)
    block = 4 * sum(group.bytes_per_token for group in roomy.kv.groups)
    roomy.close()
    plan = replace(plan, kv_bytes=num_blocks * block)
    return CpuBackend().compile(graph, random_weights(graph, 0), plan)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture
def roomy() -> Iterator[Any]:
    made = program()
    yield made
    made.close()


def engine(plugins: Plugins, given: Any, *, drafts: bool = False, **limits: int) -> Engine:
    own = Limits(max_length=120, **limits)
    drafter = NgramLookup(2, 1) if drafts else None
    return Engine(given, own, plugins=plugins, drafter=drafter, seed=1)


def drain(made: Engine) -> list[Update]:
    updates: list[Update] = []
    while made.has_work:
        updates += made.step()
    assert made.blocks.num_used() == 0
    assert made.num_open == made.scheduler.num_slots == 0
    return updates


def results(updates: list[Update]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for update in updates:
        found.setdefault(update.request_id, Result(update.request_id)).add(update)
    return found


def tokens(made: Engine, request: Request) -> list[list[int]]:
    made.add(request)
    choices = results(drain(made))[request.id].choices
    assert all(choice.error is None for choice in choices), choices[0].error
    return [choice.tokens for choice in choices]


CHAINS: list[dict[str, Any]] = [
    {"temperature": 0},
    {},
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.05},
    {"temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
]


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_a_chain_gives_the_same_in_the_step_and_as_plugins(
    plugins: Plugins, roomy: Any, options: dict[str, Any], in_flight: int
) -> None:
    transforms, sampler = standard(**options)
    params = Params(max_tokens=60, n=2, seed=11, transforms=transforms, sampler=sampler)
    request = Request("r", (5, 6, 7), params)
    native, host = Watched(roomy), Watched(roomy, samples=False)
    limits = Limits(max_length=120)
    there = tokens(Engine(native, limits, plugins=plugins, in_flight=in_flight), request)
    here = tokens(Engine(host, limits, plugins=plugins), request)
    assert there == here
    assert native.num_sampled >= 2 * 59
    assert host.num_sampled == 0


def test_what_the_library_does_not_know_runs_here(plugins: Plugins, roomy: Any) -> None:
    transforms, sampler = standard(temperature=0.8, typical_p=0.9)
    params = Params(max_tokens=20, seed=3, transforms=transforms, sampler=sampler)
    watched = Watched(roomy)
    assert len(tokens(engine(plugins, watched), Request("r", (1, 2), params))[0]) == 20
    assert watched.num_sampled == 0


def some_requests(rng: random.Random, count: int) -> list[Request]:
    requests = []
    for number in range(count):
        transforms, sampler = standard(**rng.choice(CHAINS))
        params = Params(
            max_tokens=rng.randrange(1, 14),
            seed=number,
            n=rng.choice((1, 1, 2)),
            transforms=transforms,
            sampler=Link("mirostat") if rng.random() < 0.1 else sampler,
            logprobs=rng.choice((None, None, 1)),
        )
        prompt = tuple(rng.randrange(1, 4) for _ in range(rng.choice((1, 4, 9, 17, 26))))
        request = Request(f"r{number}", prompt, params, tenant=rng.choice("ab"))
        if rng.random() < 0.15:
            request = Request(request.id, prompt, pooling=rng.choice(("mean", "last")))
        requests.append(request)
    return requests


def batched_is_solo(plugins: Plugins, kind: str, kv_dtype: str, drafts: bool, count: int) -> None:
    rng = random.Random(f"{kind}{kv_dtype}{drafts}")
    requests = some_requests(rng, count)
    cramped, roomy = program(kind, 30, kv_dtype), program(kind, 200, kv_dtype)
    busy = engine(plugins, cramped, drafts=drafts, max_rows=9, max_sequences=5)
    updates, cancelled = [], set[str]()
    for request in requests:
        busy.add(request)
        for _ in range(rng.randrange(4)):
            updates += busy.step()
        victim = rng.choice(requests).id
        if rng.random() < 0.15 and busy.cancel(victim):
            cancelled.add(victim)
    together = results(updates + drain(busy))
    for request in requests:
        solo = engine(plugins, roomy, max_rows=512)
        solo.add(request)
        alone = results(drain(solo))[request.id]
        for mine, theirs in zip(together[request.id].choices, alone.choices, strict=False):
            if request.id in cancelled:
                assert theirs.tokens[: len(mine.tokens)] == mine.tokens
                continue
            assert mine.error is None
            assert (mine.tokens, mine.logprobs) == (theirs.tokens, theirs.logprobs)
            np.testing.assert_array_equal(mine.hidden, theirs.hidden)
    cramped.close()
    roomy.close()


@pytest.mark.parametrize("drafts", [False, True], ids=["plain", "drafts"])
@pytest.mark.parametrize(
    ("kind", "kv_dtype"), [("llama", "f32"), ("gemma2", "q8"), ("mistral", "f16")]
)
def test_batched_tokens_are_solo_tokens(
    plugins: Plugins, kind: str, kv_dtype: str, drafts: bool
) -> None:
    batched_is_solo(plugins, kind, kv_dtype, drafts, 30)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gemma2", "mistral", "qwen3", "mixtral"])
def test_batched_tokens_are_solo_tokens_at_length(plugins: Plugins, kind: str) -> None:
    batched_is_solo(plugins, kind, "f32", False, 1000)
