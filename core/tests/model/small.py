"""Small models of every architecture, and a driver that steps a program by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.model.architectures import create
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph
from llama_core.model.op_backend import OpBackend
from llama_core.model.weights import Weights

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 256,
    "sliding_window": 7,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "query_pre_attn_scalar": 6,
}


def model(architecture: str, seed: int = 0, **changes: Any) -> tuple[Graph, Weights]:
    graph = create(architecture).build({**SIZES, "model_type": architecture, **changes})
    return graph, random_weights(graph, seed)


class Driver:
    """One program, with its own tables of blocks for each sequence, in no order."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        dtype: str = "f32",
        backend: OpBackend | None = None,
        **plan: Any,
    ) -> None:
        given = {"kv_bytes": 1 << 20, "block_size": 4, **plan}
        self.program = (backend or Reference(dtype)).compile(graph, weights, Plan(**given))
        order = np.random.default_rng(7).permutation(self.program.kv.num_blocks)
        self.free = [int(block) for block in order]
        self.tables: dict[int, list[int]] = {}

    def batch(
        self,
        parts: Sequence[tuple[int, Sequence[int], int]],
        want: Want = Want.LOGITS,
        **more: Any,
    ) -> Batch:
        """Parts are (sequence, tokens, first position)."""
        for sequence, tokens, first in parts:
            table = self.tables.setdefault(sequence, [])
            while len(table) * self.program.kv.block_size < first + len(tokens):
                table.append(self.free.pop())
        lengths = [len(tokens) for _, tokens, _ in parts]
        return Batch(
            np.array([t for _, tokens, _ in parts for t in tokens], np.int32),
            np.array([first + i for _, ts, first in parts for i in range(len(ts))], np.int32),
            np.cumsum([0, *lengths], dtype=np.int32),
            tuple(tuple(self.tables[s] for s, _, _ in parts) for _ in self.program.kv.groups),
            np.full(sum(lengths), want, np.uint8),
            **more,
        )

    def step(self, parts: Sequence[tuple[int, Sequence[int], int]], **more: Any) -> Any:
        """The logits of each part."""
        out = self.program.submit(self.batch(parts, **more)).result().logits_RV
        cuts = np.cumsum([len(tokens) for _, tokens, _ in parts])[:-1]
        return np.split(out, cuts)


def logits(
    graph: Graph, weights: Weights, tokens: Sequence[int], chunk: int = 10**6, **plan: Any
) -> Any:
    """One sequence through a fresh program, in chunks."""
    driver = Driver(graph, weights, **plan)
    parts = [driver.step([(0, tokens[i : i + chunk], i)])[0] for i in range(0, len(tokens), chunk)]
    return np.concatenate(parts)


def prompt(num: int, seed: int = 0, vocab_size: int = 61) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab_size, num).tolist()
