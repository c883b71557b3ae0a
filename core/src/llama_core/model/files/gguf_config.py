"""GGUF's metadata and Hugging Face's config, each from the other.

One table of keys for all families, and for each family what the metadata leaves unsaid because
llama.cpp has it built in. It knows nothing of tensors but two: those that hold rope factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llama_core.model.encodings.base import FloatArray
from llama_core.model.files.gguf_names import Family

# GGUF's key after the architecture's name, and Hugging Face's.
KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
_GRANITE = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
_MORE: dict[str, dict[str, str]] = {
    "mixtral": {
        "expert_count": "num_local_experts",
        "expert_used_count": "num_experts_per_tok",
    },
    "qwen3_moe": {
        "expert_count": "num_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_feed_forward_length": "moe_intermediate_size",
    },
    "granite": _GRANITE,
    "gemma2": {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    },
}
_REQUIRED = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
Factors = Mapping[str, FloatArray]


def keys_of(family: Family) -> dict[str, str]:
    """All keys of a family."""
    return KEYS | _MORE.get(family.model_type, {})


def to_config(
    metadata: Mapping[str, Any], family: Family, names: Mapping[str, Any], factors: Factors
) -> tuple[dict[str, Any], list[str]]:
    """The config, and what is wrong with the metadata. `names` are the file's tensors."""
    arch = family.architecture
    faults = []
    config: dict[str, Any] = {"model_type": family.model_type, "architectures": [family.class_name]}
    for key, name in keys_of(family).items():
        value = metadata.get(f"{arch}.{key}")
        if isinstance(value, (list, np.ndarray)):
            value = _uniform(value)
            if value is None:
                faults.append(f"'{arch}.{key}' differs between layers, which is not read")
                continue
        if value is None:
            continue
        if not _is_number(value):
            faults.append(f"'{arch}.{key}' is {_shown(value)}, not a number")
            continue
        config[name] = value
    faults += [f"no '{arch}' key gives {name}" for name in _REQUIRED if name not in config]
    if faults:
        return config, faults
    tokens = metadata.get("tokenizer.ggml.tokens")
    if "vocab_size" not in config and isinstance(tokens, list):
        config["vocab_size"] = len(tokens)
    config["tie_word_embeddings"] = "output.weight" not in names
    config["attention_bias"] = "blk.0.attn_q.bias" in names
    config["mlp_bias"] = "blk.0.ffn_gate.bias" in names
    for which in ("bos", "eos"):
        index = metadata.get(f"tokenizer.ggml.{which}_token_id")
        if isinstance(index, int):
            config[f"{which}_token_id"] = index
    faults += _read_rope(metadata, arch, config, factors)
    if (special := _SPECIAL.get(family.model_type)) is not None and not faults:
        special(metadata, config)
    return config, faults


def _uniform(values: Any) -> Any:
    same = isinstance(values, np.ndarray) and len(values) and bool((values == values[0]).all())
    return values[0].item() if same else None


def _shown(value: object) -> str:
    """A value for a message; of what may be endless only the kind."""
    if isinstance(value, (str, int, float)):
        return repr(str(value)[:40])
    return "a list"


def _read_rope(
    metadata: Mapping[str, Any], arch: str, config: dict[str, Any], factors: Factors
) -> list[str]:
    faults: list[str] = []

    def number(key: str) -> float | int | None:
        value = metadata.get(f"{arch}.rope.{key}")
        if value is None or (_is_number(value) and value >= 0):
            return value
        faults.append(f"'{arch}.rope.{key}' is {_shown(value)}, not a number from 0 on")
        return None

    head = config.get("head_dim") or config["hidden_size"] // max(config["num_attention_heads"], 1)
    turned = number("dimension_count")
    if turned is not None and 0 < turned < head:
        config["partial_rotary_factor"] = turned / head
    older = number("scale_linear")
    factor = number("scaling.factor") or older
    original = number("scaling.original_context_length")
    kind = metadata.get(f"{arch}.rope.scaling.type", "linear" if older else "none")
    if not isinstance(kind, str) or kind not in ("none", "linear", "yarn", "longrope"):
        faults.append(f"the rope scaling {_shown(kind)} is not known")
        kind = "none"  # an array would not even compare
    if "rope_freqs.weight" in factors:
        config["rope_scaling"] = _llama3(factors["rope_freqs.weight"], config, head)
        if config["rope_scaling"] is None:
            faults.append("'rope_freqs.weight' is not what Llama 3's rule gives")
    elif "rope_factors_long.weight" in factors:
        long, short = factors["rope_factors_long.weight"], factors.get("rope_factors_short.weight")
        short = np.ones_like(long) if short is None else short
        config["rope_scaling"] = {
            "rope_type": "longrope",
            "long_factor": long.tolist(),
            "short_factor": short.tolist(),
        }
        if attention := number("scaling.attn_factor"):
            config["rope_scaling"]["attention_factor"] = attention
        if original:
            config["original_max_position_embeddings"] = original
    elif kind in ("linear", "yarn") and factor and factor != 1:
        config["rope_scaling"] = {"rope_type": kind, "factor": factor}
        if kind == "yarn":
            given = {name: number(f"scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
            given["original_max_position_embeddings"] = original
            config["rope_scaling"] |= {k: v for k, v in given.items() if v is not None}
            if (attention := number("scaling.attn_factor")) is not None and attention != 1:
                config["rope_scaling"]["attention_factor"] = attention * yarn_stretch(factor)
    return faults


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def yarn_stretch(factor: float) -> float:
    """By what yarn multiplies cosines and sines unless told otherwise; files tell what more."""
    return 1 + 0.1 * math.log(max(factor, 1.0))


def llama3_factors(scaling: Mapping[str, Any], theta: float, dim: int) -> FloatArray:
    """By what each frequency is divided under Llama 3's rule."""
    factor, low = float(scaling["factor"]), float(scaling.get("low_freq_factor", 1))
    high = float(scaling.get("high_freq_factor", 4))
    original = float(scaling.get("original_max_position_embeddings", 8192))
    waves = 2 * np.pi * theta ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    smooth = (original / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    found = np.where(
        waves < original / high, 1.0, np.where(waves > original / low, factor, between)
    )
    return found.astype(np.float32)


def _llama3(found: FloatArray, config: Mapping[str, Any], head: int) -> dict[str, Any] | None:
    """The settings that give these factors. A file holds only the result; every Llama 3 was made
    with these frequencies and this context, and the result is compared."""
    if found.size * 2 != head or not ((found > 0) & np.isfinite(found)).all():
        return None
    scaling = {
        "rope_type": "llama3",
        "factor": round(float(found.max()), 4),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    for original in (8192, 4096, 16384, 2048, 1024, 512, 256, 128, 64, 32):
        scaling["original_max_position_embeddings"] = original
        with np.errstate(all="ignore"):  # what a file says need not make sense
            wanted = llama3_factors(scaling, float(config.get("rope_theta", 10000.0)), head)
        if np.allclose(found, wanted, rtol=1e-4):
            return scaling
    return None


def _gemma(metadata: Mapping[str, Any], config: dict[str, Any]) -> None:
    config["hidden_activation"] = config["hidden_act"] = "gelu_pytorch_tanh"
    config.setdefault("head_dim", 256)


def _gemma2(metadata: Mapping[str, Any], config: dict[str, Any]) -> None:
    _gemma(metadata, config)
    config["query_pre_attn_scalar"] = _query_scale(config, large=46)
    config.setdefault("sliding_window", 4096)
    config.setdefault("attn_logit_softcapping", 50.0)
    config.setdefault("final_logit_softcapping", 30.0)


def _gemma3(metadata: Mapping[str, Any], config: dict[str, Any]) -> None:
    _gemma(metadata, config)
    config["query_pre_attn_scalar"] = _query_scale(config, large=62)
    config["rope_local_base_freq"] = metadata.get("gemma3.rope.freq_base_swa", 10000.0)
    config.setdefault("rope_theta", 1_000_000.0)
    config["sliding_window_pattern"] = 6


def _query_scale(config: Mapping[str, Any], large: int) -> float:
    """llama.cpp knows the 27B models, which scale by their hidden size, by their layers."""
    if config["num_hidden_layers"] == large:
        return float(config["hidden_size"] // max(config["num_attention_heads"], 1))
    return float(config["head_dim"])


def _qwen3_moe(metadata: Mapping[str, Any], config: dict[str, Any]) -> None:
    config |= {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}


def _phi3(metadata: Mapping[str, Any], config: dict[str, Any]) -> None:
    config.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))


_SPECIAL: dict[str, Callable[[Mapping[str, Any], dict[str, Any]], None]] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "qwen3_moe": _qwen3_moe,
    "phi3": _phi3,
}
