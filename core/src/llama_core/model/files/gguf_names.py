"""What tensors are called in GGUF files and in Hugging Face's, for each architecture, both ways.

A table of stems and a few exceptions. Where a GGUF file holds all experts of a layer in one tensor,
the pattern has `{e}`. It knows nothing of what is done to the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llama_core.errors import LlamaError, did_you_mean, sentence

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_QK_NORM = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_LLAMA = _ATTENTION | _MLP | _NORMS
_IGNORED = {"rope_freqs", "rope_factors_long", "rope_factors_short"}


@dataclass(frozen=True, slots=True)
class Family:
    """One pair of an architecture of GGUF's and a `model_type` of Hugging Face's."""

    architecture: str
    model_type: str
    class_name: str
    layer: Mapping[str, str]  # stems within a layer
    experts: Mapping[str, str] = field(default_factory=dict)  # stems of stacked experts
    permuted: bool = False  # rows of q and k are interleaved for each head
    norms_plus_one: bool = False  # norms are stored with one added


def _experts(path: str, gate: str, up: str, down: str) -> dict[str, str]:
    named = {"ffn_gate_exps": gate, "ffn_up_exps": up, "ffn_down_exps": down}
    return {stem: f"{path}.experts.{{e}}.{name}" for stem, name in named.items()}


_SHARED = _ATTENTION | _NORMS
FAMILIES = (
    Family("llama", "llama", "LlamaForCausalLM", _LLAMA, permuted=True),
    Family("llama", "mistral", "MistralForCausalLM", _LLAMA, permuted=True),
    Family(
        "llama",
        "mixtral",
        "MixtralForCausalLM",
        _SHARED | {"ffn_gate_inp": "block_sparse_moe.gate"},
        _experts("block_sparse_moe", "w1", "w3", "w2"),
        permuted=True,
    ),
    Family("granite", "granite", "GraniteForCausalLM", _LLAMA, permuted=True),
    Family("qwen2", "qwen2", "Qwen2ForCausalLM", _LLAMA),
    Family("qwen3", "qwen3", "Qwen3ForCausalLM", _LLAMA | _QK_NORM),
    Family(
        "qwen3moe",
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        _SHARED | _QK_NORM | {"ffn_gate_inp": "mlp.gate"},
        _experts("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    Family("gemma", "gemma", "GemmaForCausalLM", _LLAMA, norms_plus_one=True),
    Family(
        "gemma2", "gemma2", "Gemma2ForCausalLM", _ATTENTION | _MLP | _FOUR_NORMS,
        norms_plus_one=True,
    ),
    Family(
        "gemma3", "gemma3_text", "Gemma3ForCausalLM", _ATTENTION | _QK_NORM | _MLP | _FOUR_NORMS,
        norms_plus_one=True,
    ),
    Family(
        "phi3", "phi3", "Phi3ForCausalLM",
        _NORMS | {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
                  "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
    ),
    Family("olmo2", "olmo2", "Olmo2ForCausalLM", _ATTENTION | _QK_NORM | _MLP | _POST_NORMS),
)  # fmt: skip


class UnknownFamily(LlamaError):
    """An architecture that this format's tables do not have."""

    code = "architecture_unknown"


def by_architecture(name: str, *, has_experts: bool) -> Family:
    """The family of a file's `general.architecture`."""
    fitting = [one for one in FAMILIES if one.architecture == name]
    if not fitting:
        raise _unknown(name, {one.architecture for one in FAMILIES})
    return next((one for one in fitting if bool(one.experts) == has_experts), fitting[0])


def by_model_type(name: str) -> Family:
    """The family of a config's `model_type`."""
    found = next((one for one in FAMILIES if one.model_type == name), None)
    if found is None:
        raise _unknown(name, {one.model_type for one in FAMILIES})
    return found


def _unknown(name: str, known: set[str]) -> UnknownFamily:
    near = sentence(did_you_mean(name, known)) or f"Known: {', '.join(sorted(known))}."
    return UnknownFamily(f"GGUF's architecture for '{name[:80]}' is not known", remedy=near)


_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+?)(?:\.(\d{1,5}))?\.(weight|bias)")
_MODEL_LAYER = re.compile(r"(?:model\.)?layers\.(\d{1,5})\.(.+)\.(weight|bias)")
_EXPERT = re.compile(r"\.experts\.(\d{1,5})\.")


def to_model(name: str, family: Family) -> str | None:
    """Hugging Face's name of a file's tensor, `{e}` where it holds all experts; None where the
    tensor is not a weight. A name that nobody knows stays as it is, to be complained about."""
    stem, _, role = name.rpartition(".")
    if stem in _IGNORED or role not in ("weight", "bias"):
        return None if stem in _IGNORED or name in _IGNORED else name
    if stem in _TOP:
        return f"{_TOP[stem]}.{role}"
    found = _LAYER.fullmatch(name)
    if found is None:
        return name
    layer, part, expert, role = found.groups()
    if expert is not None:  # files of 2023 hold each expert by itself
        pattern = family.experts.get(f"{part}_exps")
        path = None if pattern is None else pattern.replace("{e}", expert)
    else:
        path = family.layer.get(part) or family.experts.get(part)
    return name if path is None else f"model.layers.{layer}.{path}.{role}"


def to_file(name: str, family: Family) -> tuple[str, int | None]:
    """A file's name of Hugging Face's tensor, and which expert it is in a stack of them."""
    stem, _, role = name.rpartition(".")
    for short, long in _TOP.items():
        if stem in (long, long.removeprefix("model.")):
            return f"{short}.{role}", None
    if found := _MODEL_LAYER.fullmatch(name):
        layer, path, role = found.groups()
        for short, long in family.layer.items():
            if path == long:
                return f"blk.{layer}.{short}.{role}", None
        if one := _EXPERT.search(f".{path}."):
            pattern = path.replace(f"experts.{one[1]}.", "experts.{e}.")
            for short, long in family.experts.items():
                if pattern == long:
                    return f"blk.{layer}.{short}.{role}", int(one[1])
    raise UnknownFamily(f"GGUF has no name for tensor '{name[:120]}' of '{family.model_type}'")
