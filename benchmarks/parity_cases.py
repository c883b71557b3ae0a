"""What parity is measured on: what a case is, small sizes, and the words that cases share.

A case is a config that exercises some quirks; a mutant is our model without one of them. Knows the
words of config.json and of our graph, and neither torch nor how anything is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llama_core.model.graph import Graph

Config = dict[str, Any]
Change = Mapping[str, Any] | Callable[[Graph], Graph]


@dataclass(frozen=True)
class Case:
    """One config: what it adds to the architecture's sizes, and what must fail without."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    mutants: Mapping[str, Change] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)  # what transformers cannot be told
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


# ---------------------------------------------------------------- words of configs

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
