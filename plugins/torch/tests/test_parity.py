"""The backend against the NumPy reference, on random graphs of every architecture that core has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan
from llama_core.model.architectures import ARCHITECTURES, create
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph
from llama_core.model.rewrites.act import SetAct, measured_scales
from llama_core.testing import drive
from llama_core.testing.drive import Part

pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_torch.backend import TorchBackend

BOUND = 1e-4
PLAN = Plan(kv_bytes=1 << 22, block_size=4, max_tokens=64, max_sequences=8)
SIZES: Mapping[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 60,
    "intermediate_size": 70,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 0.01,
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 34}
# What an architecture has beyond the sizes: the quirks that other ops and attributes come from.
QUIRKS: Mapping[str, list[Mapping[str, Any]]] = {
    "llama": [
        {"attention_bias": True, "mlp_bias": True},
        {"num_key_value_heads": 1, "tie_word_embeddings": True},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {
            "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
            "max_position_embeddings": 12,
        },
    ],
    "mistral": [{"sliding_window": 5}, {"sliding_window": 1}],
    "mixtral": [{"num_local_experts": 6, "num_experts_per_tok": 2}],
    "qwen2": [{"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}],
    "qwen3_moe": [{**EXPERTS, "norm_topk_prob": True}, {**EXPERTS, "decoder_sparse_step": 2}],
    "gemma": [{"tie_word_embeddings": True}],
    "gemma2": [
        {
            "sliding_window": 6,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0,
            "query_pre_attn_scalar": 7,
            "head_dim": 14,
        }
    ],
    "gemma3_text": [{"sliding_window": 6, "sliding_window_pattern": 3, "head_dim": 10}],
    "phi3": [{"sliding_window": 9}, {"partial_rotary_factor": 0.6}],
    "granite": [{"embedding_multiplier": 6.0, "attention_multiplier": 0.2, "logits_scaling": 2.0}],
}


def graph(architecture: str, quirk: Mapping[str, Any]) -> Graph:
    return create(architecture).build({"model_type": architecture, **SIZES, **quirk})


@pytest.mark.parametrize(
    ("architecture", "number"),
    [(name, i) for name in ARCHITECTURES for i in range(len(QUIRKS.get(name, [{}])))],
)
def test_logits_are_the_references(architecture: str, number: int) -> None:
    """A prompt at once and in chunks, then steps that mix chunks and single rows of others."""
    model = graph(architecture, QUIRKS.get(architecture, [{}])[number])
    weights = random_weights(model, number)
    prompts = [drive.tokens(model.vocab_size, drive.LONGEST, seed) for seed in range(4)]
    steps: list[tuple[Part, ...]] = [
        (Part(prompts[0][:17], 0, 0),),
        (Part(prompts[1][:7], 0, 1),),
        (Part(prompts[1][7:9], 7, 1), Part(prompts[0][17:18], 17, 0), Part(prompts[2][:3], 0, 2)),
        (Part(prompts[2][3:4], 3, 2), Part(prompts[0][18:19], 18, 0), Part(prompts[1][9:10], 9, 1)),
        (Part(prompts[3][:1], 0, 3), Part(prompts[0][19:24], 19, 0), Part(prompts[2][4:5], 4, 2)),
    ]
    programs = [one.compile(model, weights, PLAN) for one in (Reference(), TorchBackend())]
    for parts in steps:
        expected, found = (np.concatenate(drive.run(each, *parts)) for each in programs)
        assert expected.std() > 0.3, "the logits say nothing"
        assert np.abs(found - expected).max() <= BOUND


@pytest.mark.parametrize("act", ["q8:16", "q8:7", "q8:1000", "q7:16"])
@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_activations_in_few_bits_are_the_references(architecture: str, act: str) -> None:
    """Codes and scales are the reference's own, so the logits agree as closely as without."""
    plain = graph(architecture, {"num_local_experts": 4, "num_experts_per_tok": 2})
    model = plain.map(
        lambda node: node.with_attrs(act=act) if "act" in node.attrs else node, "act"
    ).validate()
    weights = random_weights(model, 3)
    part = Part(drive.tokens(model.vocab_size, 9))
    expected, found, without = (
        drive.run(one.compile(given, weights, PLAN), part)[0]
        for one, given in ((Reference(), model), (TorchBackend(), model), (Reference(), plain))
    )
    assert np.abs(found - expected).max() <= BOUND
    assert np.abs(without - expected).max() > 100 * BOUND


def test_activations_with_fixed_scales_are_the_references() -> None:
    plain, part = graph("llama", {}), Part(drive.tokens(101, 9))
    weights = random_weights(plain, 3)
    scales = measured_scales(plain, weights, [drive.tokens(101, 20, 1)])
    model, both = SetAct("static", scales=scales)(plain, weights)
    expected, found, without = (
        drive.run(one.compile(given, held, PLAN), part)[0]
        for one, given, held in (
            (Reference(), model, both),
            (TorchBackend(), model, both),
            (Reference(), plain, weights),
        )
    )
    assert np.abs(found - expected).max() <= BOUND
    assert np.abs(without - expected).max() > 100 * BOUND


@pytest.mark.parametrize(("kind", "bound"), [("f16", 2e-3), ("bf16", 2e-2), ("q8", 2e-2)])
def test_narrow_pasts_are_the_references(kind: str, bound: float) -> None:
    """Keys and values in 16 and 8 bits are rounded as the reference rounds them."""
    model = graph("llama", {})
    weights = random_weights(model, 5)
    plan = Plan(kv_bytes=1 << 22, block_size=4, kv_dtype=kind)
    programs = [one.compile(model, weights, plan) for one in (Reference(), TorchBackend())]
    tokens = drive.tokens(model.vocab_size, 12)
    for part in (Part(tokens[:9]), Part(tokens[9:], 9)):
        expected, found = (drive.run(each, part)[0] for each in programs)
        assert np.abs(found - expected).max() <= bound


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, from within its compiler
@pytest.mark.parametrize("architecture", ["gemma2", "mixtral"])
def test_compiled_logits_are_the_references(architecture: str) -> None:
    """By torch.compile: several rows, then one, then two sequences."""
    model = graph(architecture, QUIRKS[architecture][0])
    weights = random_weights(model, 1)
    prompt = drive.tokens(model.vocab_size, 12)
    backends = (Reference(), TorchBackend(compile=True))
    programs = [one.compile(model, weights, PLAN) for one in backends]
    for parts in (
        (Part(prompt[:9]),),
        (Part(prompt[9:10], 9),),
        (Part(prompt[10:11], 10), Part(prompt[:5], 0, 1)),
    ):
        expected, found = (np.concatenate(drive.run(each, *parts)) for each in programs)
        assert np.abs(found - expected).max() <= BOUND
