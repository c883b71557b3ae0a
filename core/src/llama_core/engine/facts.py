"""What can be said of a model without loading it: files are opened and mapped, no tensor is read.

Facts are plain data, for people and machines alike. A model whose tensors do not fit its graph has
no facts but one error, with all that is missing, misshapen or left over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llama_core.contracts.format import ModelFiles
from llama_core.contracts.program import SPEC as PROGRAM
from llama_core.contracts.rewrite import SPEC as REWRITE
from llama_core.engine.finding import build_model, declared_context
from llama_core.engine.fitting import check_fit, left_over
from llama_core.engine.memory import kv_bytes_per_token
from llama_core.model import rewrites
from llama_core.model.architectures import model_type, text_config
from llama_core.model.files.disk import disk_bytes
from llama_core.model.graph import Graph
from llama_core.model.weights import Weights
from llama_core.plugins import Plugins

_NO_DEFAULTS = {"transformers_version", "_from_model_config"}  # of a generation config


def graph_of(
    plugins: Plugins, files: ModelFiles, rewrite: Sequence[tuple[str, Mapping[str, Any]]] = ()
) -> tuple[Graph, Weights]:
    """The graph after the rewrites, and its weights, which fit it."""
    graph, weights = build_model(plugins, files)
    check_fit(graph, weights, files)
    return rewrites.apply([plugins.create(REWRITE, *one) for one in rewrite], graph, weights)


def facts(
    plugins: Plugins, files: ModelFiles, built: tuple[Graph, Weights] | None
) -> dict[str, Any]:
    """Everything about a model; `built` is None where its architecture is unknown."""
    return {
        "path": str(files.path),
        "format": files.format,
        "model_type": model_type(files.config),
        **(_of_graph(*built) if built else _of_config(plugins, files)),
        "encodings": encodings(built[1] if built else files.weights),
        "disk_bytes": disk_bytes(files.path),
        "tokenizer": files.tokenizer.get("kind"),
        "chat_template": files.chat_template is not None,
        "quantization": _quantization(files.config),
        "generation": {k: v for k, v in files.generation.items() if k not in _NO_DEFAULTS},
    }


def encodings(weights: Weights) -> dict[str, dict[str, int]]:
    """How many tensors and numbers lie in which encoding, and what they take."""
    found: dict[str, dict[str, int]] = {}
    for name in weights.names():
        shape, encoding = weights.about(name)
        row = found.setdefault(encoding.name, {"tensors": 0, "parameters": 0, "bytes": 0})
        row["tensors"] += 1
        row["parameters"] += math.prod(shape)
        row["bytes"] += weights.bytes_of(name)
    return dict(sorted(found.items(), key=lambda one: -one[1]["bytes"]))


def _of_graph(graph: Graph, weights: Weights) -> dict[str, Any]:
    attention = graph.of("attention")
    heads = sorted(
        {(n.attrs["num_heads"], n.attrs["num_kv_heads"], n.attrs["head_dim"]) for n in attention}
    )
    windows = {node.attrs["window"] for node in attention} - {None}
    return {
        "architecture": graph.architecture,
        "parameters": sum(math.prod(shape) for shape in graph.shapes.values()),
        "layers": len(attention),
        "heads": [dict(zip(("query", "key", "size"), one, strict=True)) for one in heads],
        "hidden_size": graph.hidden_size,
        "context_length": graph.context_length,
        "windows": sorted(windows),
        "vocab_size": graph.vocab_size,
        "kv_bytes_per_token": {t: kv_bytes_per_token(graph, t) for t in ("f32", "f16", "q8")},
        "rewrites": list(graph.rewrites),
        "left_over": left_over(graph, weights),
    }


def _of_config(plugins: Plugins, files: ModelFiles) -> dict[str, Any]:
    config, weights = text_config(files.config), files.weights
    return {
        "architecture": None,
        "parameters": sum(math.prod(weights.about(name).shape) for name in weights.names()),
        "layers": config.get("num_hidden_layers", config.get("n_layer")),
        "hidden_size": config.get("hidden_size", config.get("n_embd")),
        "context_length": declared_context(files.config),
        "vocab_size": config.get("vocab_size"),
        "programs": plugins.names(PROGRAM.kind),  # which may run it; none of them was asked
    }


def _quantization(config: Mapping[str, Any]) -> str | None:
    given = config.get("quantization_config")
    if not isinstance(given, Mapping):
        return None
    method, bits = given.get("quant_method", "?"), given.get("bits")
    return f"{method}, {bits} bits" if isinstance(bits, int) else str(method)
