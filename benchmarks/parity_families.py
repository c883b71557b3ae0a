"""The cases of every architecture: its quirks by name, and what must fail without each.

One function an architecture, named as its config's `model_type`; sizes come from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from parity_cases import (
    DROP,
    DYNAMIC,
    EPS,
    FAR,
    LINEAR,
    LLAMA3,
    UNSCALED,
    YARN,
    YARN_FULL,
    Case,
    Change,
    longrope,
    sizes,
)
from parity_mutants import attrs, no_bias, swapped, without

BIAS = {"attention_bias": True}
NO_BIAS: Mapping[str, Change] = {
    "q, k, v bias": no_bias("q_proj", "k_proj", "v_proj"),
    "o bias": no_bias("o_proj"),
}
TURNED: Mapping[str, Change] = {"rope of q": without("q_rope"), "rope of k": without("k_rope")}


@dataclass(frozen=True)
class Size:
    """What of the sizes the cases depend on."""

    pairs: int  # that rope turns in a head
    untied: Mapping[str, Change]  # the mutant of a head of its own, where there is one


def llama(size: Size) -> list[Case]:
    return [
        Case(
            "plain", {"rope_theta": 5e5}, {"theta": {"rope_theta": 1e4}, "eps": EPS} | size.untied
        ),
        Case("rotation", {}, TURNED),
        Case(
            "bias",
            {**BIAS, "mlp_bias": True},
            {
                **NO_BIAS,
                "mlp bias": no_bias("gate_proj", "up_proj", "down_proj"),
            },
        ),
        Case("one key head", {"num_key_value_heads": 1}),
        Case(
            "wide heads",
            {"head_dim": 22},
            {"scale of scores": attrs("attn.core", scale=(2 * size.pairs) ** -0.5)},
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


def mistral(size: Size) -> list[Case]:
    return [
        Case(
            "window",
            {"sliding_window": 9, "rope_theta": 1e6},
            {
                "window": {"sliding_window": None},
                "window of one more": {"sliding_window": 10},
                "theta": {"rope_theta": DROP},
                **size.untied,
            },
        ),
        Case("no window", {"sliding_window": None}, {"none": {"sliding_window": 8}}),
        Case("far, window", {**FAR, "sliding_window": 33}, prompt=1500, steps=4),
    ]


def mixtral(size: Size) -> list[Case]:
    return [
        Case(
            "experts",
            {"num_local_experts": 6, "num_experts_per_tok": 2},
            {
                "two a token": {"num_experts_per_tok": 1},
                "shares of one": attrs("mlp.experts", normalize=False),
                "theta of a million": {"rope_theta": 1e4},
                **size.untied,
            },
        ),
        Case(
            "window",
            {"num_local_experts": 4, "num_experts_per_tok": 3, "sliding_window": 11},
            {"window": {"sliding_window": None}},
        ),
    ]


def qwen2(size: Size) -> list[Case]:
    windows = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
    return [
        Case("bias", {}, {"q, k, v bias": no_bias("q_proj", "k_proj", "v_proj"), **size.untied}),
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


def qwen3(size: Size) -> list[Case]:
    return [
        Case(
            "norms",
            {},
            {"norm of q": without("q_norm"), "norm of k": without("k_norm"), **size.untied},
        ),
        Case("bias", BIAS, NO_BIAS),
        Case(
            "window",
            {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
            {"window": {"use_sliding_window": False}},
        ),
    ]


def qwen3_moe(size: Size) -> list[Case]:
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
                **size.untied,
            },
        ),
        Case("shares as they are", experts, {"shares": {"norm_topk_prob": True}}),
        Case("every other layer", {**experts, "decoder_sparse_step": 2}),
        Case("some layers plain", {**experts, "mlp_only_layers": [0, 2]}),
        Case("bias", {**experts, **BIAS}, NO_BIAS),
    ]


def gemma(size: Size) -> list[Case]:
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
        Case("bias", BIAS, NO_BIAS),
        Case("tanh form", {}, {"form": attrs("glu", fn="gelu")}, negative_gates=True),
    ]


def gemma2(size: Size) -> list[Case]:
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


def gemma3_text(size: Size) -> list[Case]:
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


def phi3(size: Size) -> list[Case]:
    long = {"max_position_embeddings": 256, "rope_scaling": longrope(size.pairs)}
    return [
        Case(
            "fused",
            {"sliding_window": 9},
            {
                "window": {"sliding_window": None},
                "gate before up": swapped("gate_part", "up_part"),
                "q, k order": swapped("k_part", "v_part"),
                **size.untied,
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
                    "rope_scaling": {**longrope(size.pairs), "attention_factor": 1.0}
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
            {"partial_rotary_factor": (size.pairs // 2) / size.pairs},
            {"part": {"partial_rotary_factor": DROP}},
        ),
    ]


def olmo2(size: Size) -> list[Case]:
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
                **size.untied,
            },
        ),
        Case("bias", BIAS, NO_BIAS),
    ]


def granite(size: Size) -> list[Case]:
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
                **size.untied,
            },
        ),
        Case(
            "bias",
            {**BIAS, "mlp_bias": True, "attention_multiplier": 0.3},
            {
                **NO_BIAS,
                "mlp bias": no_bias("gate_proj", "up_proj", "down_proj"),
            },
        ),
    ]


FAMILIES: Mapping[str, Callable[[Size], list[Case]]] = {
    "llama": llama,
    "mistral": mistral,
    "mixtral": mixtral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3_text,
    "phi3": phi3,
    "olmo2": olmo2,
    "granite": granite,
}


def cases(architecture: str, seed: int) -> list[Case]:
    """The cases of an architecture at a seed."""
    size = sizes(architecture, seed)
    pairs = size["hidden_size"] // size["num_attention_heads"] // 2
    untied = {} if size["tie_word_embeddings"] else {"own head": {"tie_word_embeddings": True}}
    return FAMILIES[architecture](Size(pairs, untied))
