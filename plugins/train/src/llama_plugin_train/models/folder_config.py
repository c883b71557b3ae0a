"""Our configurations in the words of Hugging Face's `config.json`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.errors import ConfigError
from llama_plugin_train.models.config import AnyConfig, DecoderConfig, from_dict
from llama_plugin_train.models.names import architecture

OWN = "llama_core_train"  # the `model_type` of folders that only `load_folder` reads

_LLAMA = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_size",
    "max_position_embeddings": "max_positions",
    "rope_theta": "rope_theta",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
    "initializer_range": "initial_std",
}
_GPT2 = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_positions": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tied",
    "initializer_range": "initial_std",
}
_CLASSES = {"llama": "LlamaForCausalLM", "mixtral": "MixtralForCausalLM", "gpt2": "GPT2LMHeadModel"}
_FIXED: dict[str, dict[str, Any]] = {
    "llama": {"hidden_act": "silu"},
    "mixtral": {"hidden_act": "silu", "sliding_window": None},
    "gpt2": {
        "activation_function": "gelu_new",
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
    },
}
# Their configurations have tokens of their own where a file names none, which ours may not mean.
_TOKENS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))


def to_folder(config: DecoderConfig, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says. `tokens` are the ids of bos, eos and pad where there are such."""
    kind = architecture(config)
    about: dict[str, Any] = {"model_type": kind, "architectures": [_CLASSES[kind]]}
    words = _GPT2 if kind == "gpt2" else _LLAMA
    about |= {theirs: getattr(config, ours) for theirs, ours in words.items()}
    about |= _FIXED[kind] | {"dtype": "float32"}
    if kind == "gpt2":
        return about | _TOKENS | dict(tokens)
    about["num_key_value_heads"] = config.kv_heads
    about["head_dim"] = config.head_width
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    about |= {"rope_parameters": rope}
    if kind == "mixtral":
        about["num_local_experts"] = config.num_experts
        about["num_experts_per_tok"] = config.experts_per_token
        about["router_aux_loss_coef"] = 0.0
    else:
        about |= {"attention_bias": config.bias, "mlp_bias": config.bias}
    return about | _TOKENS | dict(tokens)


def from_folder(about: Mapping[str, Any]) -> AnyConfig:
    """The configuration of a folder; what this trainer cannot build is refused by its word."""
    kind = about.get("model_type")
    if kind == OWN:
        return from_dict(about["config"])
    if kind not in _CLASSES:
        raise ConfigError(
            f"a model of type {kind!r} cannot be trained on",
            remedy=f"Known are {', '.join(_CLASSES)} and what save_own wrote.",
        )
    words = _GPT2 if kind == "gpt2" else _LLAMA
    given = {ours: about[theirs] for theirs, ours in words.items() if about.get(theirs) is not None}
    for word, value in _FIXED[kind].items():
        if value not in (0.0, about.get(word, value)):
            raise ConfigError(f"a {kind} whose {word} is {about[word]!r} cannot be trained on")
    if kind == "gpt2":
        given.setdefault("intermediate_size", 4 * given.get("hidden_size", 0))
        given |= {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True}
        return from_dict(given)
    rope = about.get("rope_parameters") or about.get("rope_scaling") or {}
    if (rope.get("rope_type") or rope.get("type") or "default") != "default":
        raise ConfigError(f"rope that is stretched ({dict(rope)}) cannot be trained on")
    given["rope_theta"] = rope.get("rope_theta", given.get("rope_theta", 10000.0))
    if kind == "mixtral":
        given["num_experts"] = about["num_local_experts"]
        given["experts_per_token"] = about["num_experts_per_tok"]
    elif about.get("attention_bias", False) != about.get("mlp_bias", False):
        raise ConfigError(
            "a llama with biases in only one of attention and MLP cannot be trained on"
        )
    else:
        given["bias"] = about.get("attention_bias", False)
    given.setdefault("tied", False)
    return from_dict(given)
