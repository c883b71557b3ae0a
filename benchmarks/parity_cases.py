"""What parity is measured on: small configs of every architecture, and mutants that must fail.

A case is a config that exercises some quirks; a mutant is our model without one of them. Knows the
words of config.json and of our graph, and neither torch nor how anything is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from parity_mutants import attrs, no_bias, swapped, without

from llama_core.model.graph import Graph

Config = dict[str, Any]
Change = Mapping[str, Any] | Callable[[Graph], Graph]


@dataclass(frozen=True)
class Case:
    """One config: what it adds to the architecture's sizes, and what must fail without."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    mutants: Mapping[str, Change] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(
        default_factory=dict
    )  # keys that transformers knows not, or refuses
    negative_gates: bool = False  # around -3, where the two forms of gelu differ by percents
    stored: str = "float32"  # torch's name of the type in the file
    shard: str = "1GB"  # the largest file
    prompt: int = 40
    steps: int = 64


DROP = object()  # as a config key's value: the key is not there

# ---------------------------------------------------------------- sizes

HEADS = ((4, 2), (6, 2), (5, 1), (3, 3), (8, 2))  # query and key heads, over the seeds
HEAD_SIZES = (10, 12, 18, 14, 6)
FREE_HEAD_SIZE = ("mistral", "mixtral", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text")


def sizes(architecture: str, seed: int) -> Config:
    """Everything small and odd; eps large enough that another eps is seen."""
    generator = np.random.default_rng([seed, len(architecture)])
    heads, kv_heads = HEADS[seed % len(HEADS)]
    head_size = HEAD_SIZES[seed % len(HEAD_SIZES)]
    config: Config = {
        "model_type": architecture,
        "vocab_size": 101 + 2 * seed,
        "hidden_size": heads * head_size,
        "intermediate_size": int(generator.integers(50, 90)),
        "num_hidden_layers": 4,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 512,
        "rms_norm_eps": 0.03,
        "tie_word_embeddings": bool(seed % 2),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if architecture in FREE_HEAD_SIZE:
        config["head_dim"] = head_size + 6
    if architecture.startswith("gemma"):
        config |= {"tie_word_embeddings": True}
    return config


# ---------------------------------------------------------------- cases

LINEAR = {"rope_type": "linear", "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_FULL = {
    **YARN,
    "original_max_position_embeddings": 512,
    "beta_fast": 24.0,
    "beta_slow": 2.0,
    "mscale": 0.8,
    "mscale_all_dim": 0.4,
    "truncate": False,
}
EPS = {"rms_norm_eps": 1e-6}
UNSCALED = {"rope_scaling": None}
FAR = {"max_position_embeddings": 2048}


def longrope(pairs: int) -> Config:
    return {
        "type": "longrope",
        "short_factor": [1.0 + 0.05 * i for i in range(pairs)],
        "long_factor": [2.0 + 0.4 * i for i in range(pairs)],
    }


def cases(architecture: str, seed: int) -> list[Case]:
    """The cases of an architecture; sizes come from the seed."""
    size = sizes(architecture, seed)
    pairs = size["hidden_size"] // size["num_attention_heads"] // 2
    bias = {"attention_bias": True}
    no_bias_at_all = {
        "q, k, v bias": no_bias("q_proj", "k_proj", "v_proj"),
        "o bias": no_bias("o_proj"),
    }
    turned = {"rope of q": without("q_rope"), "rope of k": without("k_rope")}
    untied = {} if size["tie_word_embeddings"] else {"own head": {"tie_word_embeddings": True}}
    if architecture == "llama":
        return [
            Case("plain", {"rope_theta": 5e5}, {"theta": {"rope_theta": 1e4}, "eps": EPS} | untied),
            Case("rotation", {}, turned),
            Case(
                "bias",
                {**bias, "mlp_bias": True},
                {
                    **no_bias_at_all,
                    "mlp bias": no_bias("gate_proj", "up_proj", "down_proj"),
                },
            ),
            Case("one key head", {"num_key_value_heads": 1}),
            Case(
                "wide heads",
                {"head_dim": 22},
                {"scale of scores": attrs("attn.core", scale=(2 * pairs) ** -0.5)},
            ),
            Case("bf16 in parts", stored="bfloat16", shard="30KB"),
            Case("f16", stored="float16"),
            Case("linear", {"rope_scaling": LINEAR}, {"scaling": UNSCALED}),
            Case(
                "dynamic",
                {"rope_scaling": DYNAMIC, "max_position_embeddings": 48},
                {"scaling": UNSCALED, "original": {"max_position_embeddings": 64}},
            ),
            Case(
                "llama3",
                {"rope_scaling": LLAMA3},
                {"scaling": UNSCALED, "high": {"rope_scaling": {**LLAMA3, "high_freq_factor": 30}}},
            ),
            Case(
                "yarn",
                {"rope_scaling": YARN},
                {
                    "scaling": UNSCALED,
                    "attention factor": {"rope_scaling": {**YARN, "attention_factor": 1.0}},
                },
            ),
            Case(
                "yarn, all keys",
                {"rope_scaling": YARN_FULL},
                {
                    "betas": {"rope_scaling": {**YARN_FULL, "beta_fast": 32.0, "beta_slow": 1.0}},
                    "mscale": {"rope_scaling": {**YARN_FULL, "mscale": None}},
                    "truncate": {"rope_scaling": {**YARN_FULL, "truncate": True}},
                },
            ),
            Case("far, llama3", {**FAR, "rope_scaling": LLAMA3}, prompt=1500, steps=4),
            Case("far, yarn", {**FAR, "rope_scaling": YARN_FULL}, prompt=1500, steps=4),
            Case("far, linear", {**FAR, "rope_scaling": LINEAR}, prompt=1500, steps=4),
        ]
    if architecture == "mistral":
        return [
            Case(
                "window",
                {"sliding_window": 9, "rope_theta": 1e6},
                {
                    "window": {"sliding_window": None},
                    "window of one more": {"sliding_window": 10},
                    "theta": {"rope_theta": DROP},
                    **untied,
                },
            ),
            Case("no window", {"sliding_window": None}, {"none": {"sliding_window": 8}}),
            Case("far, window", {**FAR, "sliding_window": 33}, prompt=1500, steps=4),
        ]
    if architecture == "mixtral":
        return [
            Case(
                "experts",
                {"num_local_experts": 6, "num_experts_per_tok": 2},
                {
                    "two a token": {"num_experts_per_tok": 1},
                    "shares of one": attrs("mlp.experts", normalize=False),
                    "theta of a million": {"rope_theta": 1e4},
                    **untied,
                },
            ),
            Case(
                "window",
                {"num_local_experts": 4, "num_experts_per_tok": 3, "sliding_window": 11},
                {"window": {"sliding_window": None}},
            ),
        ]
    if architecture == "qwen2":
        windows = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
        return [
            Case("bias", {}, {"q, k, v bias": no_bias("q_proj", "k_proj", "v_proj"), **untied}),
            Case(
                "window above",
                windows,
                {
                    "window": {"use_sliding_window": False},
                    "from which layer": {"max_window_layers": 0},
                },
            ),
            Case(
                "window not used",
                {"sliding_window": 9},
                {"use": {"use_sliding_window": True, "max_window_layers": 0}},
            ),
            Case("yarn", {"rope_scaling": YARN}, {"scaling": UNSCALED}),
        ]
    if architecture == "qwen3":
        return [
            Case(
                "norms",
                {},
                {"norm of q": without("q_norm"), "norm of k": without("k_norm"), **untied},
            ),
            Case("bias", bias, no_bias_at_all),
            Case(
                "window",
                {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
                {"window": {"use_sliding_window": False}},
            ),
        ]
    if architecture == "qwen3_moe":
        experts = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 34}
        return [
            Case(
                "experts",
                {**experts, "norm_topk_prob": True},
                {
                    "shares of one": {"norm_topk_prob": False},
                    "three a token": {"num_experts_per_tok": 2},
                    "norm of q": without("q_norm"),
                    "norm of k": without("k_norm"),
                    **untied,
                },
            ),
            Case("shares as they are", experts, {"shares": {"norm_topk_prob": True}}),
            Case("every other layer", {**experts, "decoder_sparse_step": 2}),
            Case("some layers plain", {**experts, "mlp_only_layers": [0, 2]}),
            Case("bias", {**experts, **bias}, no_bias_at_all),
        ]
    if architecture == "gemma":
        return [
            Case(
                "plain",
                {},
                {
                    "scaled embeddings": without("embed_scale"),
                    "one plus": attrs("norm", offset=0.0),
                    "gelu": attrs("glu", fn="silu"),
                },
            ),
            Case("bias", bias, no_bias_at_all),
            Case("tanh form", {}, {"form": attrs("glu", fn="gelu")}, negative_gates=True),
        ]
    if architecture == "gemma2":
        return [
            Case(
                "plain",
                {
                    "sliding_window": 9,
                    "query_pre_attn_scalar": 7,
                    "attn_logit_softcapping": 2.0,
                    "final_logit_softcapping": 4.0,
                },
                {
                    "scaled embeddings": without("embed_scale"),
                    "one plus": attrs("norm", offset=0.0),
                    "cap of scores": {"attn_logit_softcapping": None},
                    "cap of logits": {"final_logit_softcapping": None},
                    "scale of scores": {"query_pre_attn_scalar": 16},
                    "norm after attention": without("attn_post_norm"),
                    "norm after mlp": without("mlp_post_norm"),
                    "window": {"sliding_window": None},
                    "every other layer": {"layer_types": ["sliding_attention"] * 4},
                    "gelu": attrs("glu", fn="silu"),
                },
            ),
            Case(
                "released caps",
                {"sliding_window": 24},
                {"cap of logits": {"final_logit_softcapping": None}},
            ),
            Case("tanh form", {}, {"form": attrs("glu", fn="gelu")}, negative_gates=True),
        ]
    if architecture == "gemma3_text":
        return [
            Case(
                "plain",
                {
                    "sliding_window": 9,
                    "sliding_window_pattern": 3,
                    "query_pre_attn_scalar": 7,
                    "rope_theta": 1e6,
                    "rope_local_base_freq": 1e3,
                    "rope_scaling": LINEAR,
                },
                {
                    "scaled embeddings": without("embed_scale"),
                    "one plus": attrs("norm", offset=0.0),
                    "norm of q": without("q_norm"),
                    "norm of k": without("k_norm"),
                    "scale of scores": {"query_pre_attn_scalar": 16},
                    "norm after attention": without("attn_post_norm"),
                    "norm after mlp": without("mlp_post_norm"),
                    "window": {"sliding_window": 512},
                    "pattern": {"sliding_window_pattern": 2},
                    "theta": {"rope_theta": 1e4},
                    "theta of windows": {"rope_local_base_freq": 1e6},
                    "scaling": UNSCALED,
                    "gelu": attrs("glu", fn="silu"),
                },
            ),
            Case(
                "no window",
                {"sliding_window": 4096, "rope_theta": 1e6, "rope_local_base_freq": 1e3},
                {"theta of windows": {"sliding_window": None, "rope_local_base_freq": 1e6}},
                ours={"sliding_window": None},
            ),
            Case(
                "far",
                {**FAR, "sliding_window": 33, "rope_theta": 1e6, "rope_scaling": LINEAR},
                prompt=1500,
                steps=4,
            ),
            Case(
                "caps",
                {
                    "sliding_window": 9,
                    "final_logit_softcapping": 4.0,
                    "attn_logit_softcapping": 2.0,
                    "query_pre_attn_scalar": 12,
                },
                {
                    "cap of logits": {"final_logit_softcapping": None},
                    "scores not capped": attrs("attn.core", softcap=2.0),
                },
            ),
            Case("tanh form", {}, {"form": attrs("glu", fn="gelu")}, negative_gates=True),
        ]
    if architecture == "phi3":
        long = {"max_position_embeddings": 256, "rope_scaling": longrope(pairs)}
        return [
            Case(
                "fused",
                {"sliding_window": 9},
                {
                    "window": {"sliding_window": None},
                    "gate before up": swapped("gate_part", "up_part"),
                    "q, k order": swapped("k_part", "v_part"),
                    **untied,
                },
            ),
            Case(
                "short",
                {**long, "original_max_position_embeddings": 128},
                {"scaling": UNSCALED, "short": {"context_length": 256}},
                ours={"context_length": 128},
            ),
            Case(
                "long",
                {**long, "original_max_position_embeddings": 32},
                {
                    "long": {"context_length": 32},
                    "attention factor": {
                        "rope_scaling": {**longrope(pairs), "attention_factor": 1.0}
                    },
                },
            ),
            Case(
                "far, long",
                {**long, **FAR, "original_max_position_embeddings": 32},
                prompt=1500,
                steps=4,
            ),
            Case(
                "part of a head",
                {"partial_rotary_factor": (pairs // 2) / pairs},
                {"part": {"partial_rotary_factor": DROP}},
            ),
        ]
    if architecture == "olmo2":
        return [
            Case(
                "norms",
                {"rope_theta": 5e5},
                {
                    "norm of q": without("q_norm"),
                    "norm of k": without("k_norm"),
                    "norm after attention": without("attn_post_norm"),
                    "norm after mlp": without("mlp_post_norm"),
                    "theta": {"rope_theta": DROP},
                    **untied,
                },
            ),
            Case("bias", bias, no_bias_at_all),
        ]
    if architecture == "granite":
        return [
            Case(
                "multipliers",
                {
                    "embedding_multiplier": 6.0,
                    "attention_multiplier": 0.2,
                    "residual_multiplier": 0.4,
                    "logits_scaling": 1.5,
                },
                {
                    "of embeddings": {"embedding_multiplier": 1.0},
                    "of scores": {"attention_multiplier": 0.4},
                    "of branches": {"residual_multiplier": 1.0},
                    "of logits": {"logits_scaling": 1.0},
                    **untied,
                },
            ),
            Case(
                "bias",
                {**bias, "mlp_bias": True, "attention_multiplier": 0.3},
                {
                    **no_bias_at_all,
                    "mlp bias": no_bias("gate_proj", "up_proj", "down_proj"),
                },
            ),
        ]
    return [Case("plain", {}, untied)]
