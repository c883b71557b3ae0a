"""Models of a few thousand numbers on which rules about graphs, weights and programs are tried."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from llama_core.model.architectures import create
from llama_core.model.architectures.blocks import LLAMA_NAMES
from llama_core.model.graph import Graph
from llama_core.model.weights import DenseWeights, Weights

CONFIG: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}

# Other architectures, for the ops and attributes that the first lacks.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "llama": CONFIG,
    "qwen2": {**CONFIG, "model_type": "qwen2", "tie_word_embeddings": True},
    "gemma2": {**CONFIG, "model_type": "gemma2", "head_dim": 8, "sliding_window": 5},
    "mixtral": {**CONFIG, "model_type": "mixtral", "num_local_experts": 4},
}


def model(name: str = "llama") -> tuple[Graph, Weights]:
    """One of the variants, with the same weights every time."""
    graph, arrays = _model(name)
    return graph, DenseWeights({key: array.copy() for key, array in arrays.items()})


def models() -> dict[str, tuple[Graph, Weights]]:
    """All variants by name, the plainest first."""
    return {name: model(name) for name in VARIANTS}


def checkpoint() -> Weights:
    """The first model under the names of a checkpoint, as files hold it."""
    graph, arrays = _model("llama")
    old = {new: name for name, new in LLAMA_NAMES.items()}

    def named(name: str) -> str:
        path = ".".join(old.get(part, part) for part in name.split("."))
        return path if path.startswith("lm_head") else f"model.{path}"

    return DenseWeights({named(name): arrays[name].copy() for name in graph.shapes})


def fingerprint(weights: Weights) -> dict[str, str]:
    """Names, encodings, shapes and bytes: two that agree hold the same to the bit."""
    found = {}
    for name, tensor in weights.items():
        digest = hashlib.sha256(f"{tensor.encoding.name} {tensor.shape}".encode())
        for role in sorted(tensor.parts):
            digest.update(np.ascontiguousarray(tensor.parts[role]).tobytes())
        found[name] = digest.hexdigest()
    return found


@cache
def _model(name: str) -> tuple[Graph, dict[str, Any]]:
    config = VARIANTS[name]
    graph = create(str(config["model_type"])).build(config)
    dice = np.random.default_rng(0)
    return graph, {key: _numbers(dice, key, shape) for key, shape in graph.shapes.items()}


def _numbers(dice: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    x = dice.standard_normal(shape).astype(np.float32)
    is_norm = len(shape) == 1 and name.endswith("weight")
    return (1 + 0.1 * x if is_norm else x / np.float32(np.sqrt(shape[-1]))).astype(np.float32)
