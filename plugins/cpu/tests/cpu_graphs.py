"""Small graphs around one op, and ways to run them: what the tests of kernels are written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from llama_plugin_cpu.backend import CpuBackend
from numpy.typing import NDArray

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.model import ops
from llama_core.model.encodings import parse_encoding
from llama_core.model.graph import FrozenMap, Graph, Node
from llama_core.model.weights import Tensor, TensorWeights, tensor

Floats = NDArray[np.float32]
PLAN = Plan(kv_bytes=1 << 22, block_size=4, max_tokens=64, max_sequences=8)


def weights(arrays: Mapping[str, Floats], encodings: Mapping[str, str] | None = None) -> Any:
    """Arrays as tensors, some of them encoded."""
    tensors: dict[str, Tensor] = {}
    for name, x in arrays.items():
        encoding = (encodings or {}).get(name)
        tensors[name] = (
            tensor(x) if encoding is None else tensor(x).encoded(parse_encoding(encoding))
        )
    return TensorWeights(tensors)


def graph(width: int, nodes: list[Node], shapes: Mapping[str, Any], *, logits: str) -> Graph:
    """Vectors go in instead of tokens; the value `logits`, of any width, comes out."""
    embed = ops.node("embed", "embed", ("tokens",), {"weight": "embed.weight"})
    gather = ops.node("gather", "out", (logits, "rows"))
    every = (embed, *nodes, gather)
    plain = Graph(
        "test",
        1,
        width,
        4096,
        every,
        FrozenMap({"embed.weight": (1, width), **shapes}),
        FrozenMap({}),
    )
    wide = plain.value_shapes()["out"][1]
    vocab = Graph("test", int(wide), width, 4096, every,
                  FrozenMap({"embed.weight": (int(wide), width), **shapes}),
                  FrozenMap({"logits": "out"}))  # fmt: skip
    return vocab.validate()


def batch(x_TD: Floats, *, start: int = 0, lengths: list[int] | None = None) -> Batch:
    """Rows of vectors, one sequence or several, every one from `start` on."""
    lengths = lengths or [len(x_TD)]
    table = tuple(tuple(range(s * 16, s * 16 + 16)) for s in range(len(lengths)))
    positions = np.concatenate([np.arange(start, start + n) for n in lengths])
    return Batch(
        tokens_T=np.full(len(x_TD), -1, np.int32),
        positions_T=positions.astype(np.int32),
        starts_S1=np.cumsum([0, *lengths], dtype=np.int32),
        blocks_G=(table,),
        want_T=np.full(len(x_TD), Want.LOGITS, np.uint8),
        embeddings_TD=x_TD,
    )


def with_groups(work: Batch, count: int) -> Batch:
    return replace(work, blocks_G=work.blocks_G[:1] * count)


def run(backend: Any, given: Graph, held: Any, *works: Batch, plan: Plan = PLAN) -> Floats:
    """Logits of the steps one after another, in one program."""
    filled = {"embed.weight": np.zeros(given.shapes["embed.weight"], np.float32)}
    every = TensorWeights({**weights(filled), **held})
    program = backend.compile(given, every, plan)
    try:
        groups = len(program.kv.groups)
        found = [program.submit(with_groups(w, groups)).result().logits_RV for w in works]
    finally:
        program.close()
    return np.concatenate(found)


def cpu(tier: str = "auto", threads: int = 1) -> CpuBackend:
    return CpuBackend(threads=threads, tier=tier)


def reference() -> Reference:
    return Reference()


def off(found: Floats, expected: Floats) -> float:
    """The largest difference, relative to the largest number."""
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
