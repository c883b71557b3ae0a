"""The engine on the NumPy reference: real attention, real windows, the same promises."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from llama_core.builtin.ngram import NgramLookup
from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan
from llama_core.engine.engine import Engine
from llama_core.engine.request import Limits, Request
from llama_core.model.architectures import create as architecture
from llama_core.model.generated import random_weights
from llama_core.model.weights import TensorWeights, tensor

from .toy import SAMPLED, Letters, ask, collect, create, drain

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 256,
    "sliding_window": 7,
    "query_pre_attn_scalar": 4,
}


def engine(kind: str, num_blocks: int, kv_dtype: str, **limits: int) -> Engine:
    graph = architecture(kind).build({**SIZES, "model_type": kind})
    plan = Plan(kv_bytes=1, kv_dtype=kv_dtype, block_size=4, max_tokens=512)
    weights = random_weights(graph, 0)
    kv_bytes = 4 * num_blocks * sum(g.bytes_per_token for g in _groups(graph, weights, plan))
    plan = Plan(kv_bytes=kv_bytes, kv_dtype=kv_dtype, block_size=4, max_tokens=512)
    program = Reference().compile(graph, weights, plan)
    return Engine(
        program,
        Limits(max_length=64, **limits),
        create=create,
        tokenizer=Letters(),
        drafter=NgramLookup(2, 1),
        seed=1,
    )


def _groups(graph: Any, weights: Any, plan: Plan) -> Any:
    roomy = Plan(kv_bytes=1 << 20, kv_dtype=plan.kv_dtype, block_size=4)
    program = Reference().compile(graph, weights, roomy)
    groups = program.kv.groups
    program.close()
    return groups


def some_requests(rng: random.Random) -> list[Request]:
    requests = []
    for number in range(12):
        options: dict[str, Any] = {"max_tokens": rng.randrange(1, 12), "seed": number}
        if rng.random() < 0.6:
            options |= SAMPLED
        if rng.random() < 0.3:
            options["logprobs"] = 1
        if rng.random() < 0.3:
            options["n"] = 2
        if rng.random() < 0.2:
            options = {"pooling": "mean", "max_tokens": None}
        prompt = [rng.randrange(1, 4) for _ in range(rng.choice((1, 4, 9, 17, 26)))]
        requests.append(ask(f"r{number}", prompt, **options))
    return requests


@pytest.mark.parametrize(
    ("kind", "kv_dtype"),
    [("llama", "f32"), ("mistral", "f32"), ("gemma2", "f32"), ("gemma2", "q8"), ("qwen3", "f16")],
)
def test_batched_tokens_are_solo_tokens_on_the_reference(kind: str, kv_dtype: str) -> None:
    rng = random.Random(kind)
    requests = some_requests(rng)
    busy = engine(kind, 20, kv_dtype, max_rows=9, max_sequences=5)
    updates = []
    for request in requests:
        busy.add(request)
        for _ in range(rng.randrange(3)):
            updates += busy.step()
    together = collect(updates + drain(busy))
    for request in requests:
        solo = engine(kind, 100, kv_dtype, max_rows=512, max_sequences=5)
        solo.add(request)
        for key, alone in collect(drain(solo)).items():
            shared = together[key]
            assert shared.error is None
            assert shared.tokens == alone.tokens
            assert [p for u in shared.updates for p in u.logprobs] == [
                p for u in alone.updates for p in u.logprobs
            ]
            if alone.updates[-1].hidden is not None:
                assert (shared.updates[-1].hidden == alone.updates[-1].hidden).all()
        solo.close()
    busy.close()


@pytest.mark.parametrize("in_flight", [1, 2])
def test_weights_that_are_none_end_the_requests_that_meet_them(in_flight: int) -> None:
    """A row of the embedding is NaN: whoever says that token ends."""
    graph = architecture("llama").build({**SIZES, "model_type": "llama"})
    sound = random_weights(graph, 0)
    held = {name: sound[name] for name in sound}
    embedding = held["embed.weight"].decode().copy()
    embedding[9] = np.nan
    held["embed.weight"] = tensor(embedding)
    program = Reference().compile(graph, TensorWeights(held), Plan(kv_bytes=1 << 20))
    made = Engine(program, Limits(max_length=64), create=create, in_flight=in_flight)
    made.add(ask("ill", (9, 1)))
    made.add(ask("well", (1, 2), max_tokens=4))
    answers = collect(drain(made))
    assert answers["ill", 0].error.code == "sampling_fault"
    assert "NaN" in str(answers["ill", 0].error)
    assert answers["ill", 0].tokens == []
    assert answers["well", 0].finish == "length"
    made.close()
