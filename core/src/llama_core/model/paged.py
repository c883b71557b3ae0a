"""The reference's memory of past tokens: keys and values in blocks, found by block tables.

One array of blocks per layer group. It knows nothing of whose a block is. Numbers are held as
floats after having been through the rounding of the KV type, so that what is read is what a
backend that stores the narrow type would read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from llama_core.contracts.program import KVGroup
from llama_core.contracts.step import Batch, Plan
from llama_core.model import numerics
from llama_core.model.graph import Graph, KVHeads
from llama_core.model.numerics import Array
from llama_core.model.programs import check_kv_type, divided


def rounded(x_TGD: Array, kv_dtype: str) -> Array:
    """As the KV type keeps it: `q8` with one scale for each token and head."""
    if kv_dtype == "f16":
        return x_TGD.astype(np.float16).astype(x_TGD.dtype)
    if kv_dtype == "bf16":
        bits = x_TGD.astype(np.float32).view(np.uint32)
        half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        kept = np.where(np.isnan(x_TGD), bits, bits + half) & np.uint32(0xFFFF0000)
        return kept.view(np.float32).astype(x_TGD.dtype)
    if kv_dtype == "q8":
        flat = x_TGD.reshape(-1, x_TGD.shape[-1])
        return numerics.in_precision(flat, f"q8:{flat.shape[1]}").reshape(x_TGD.shape)
    return x_TGD


class PagedMemory:
    """Blocks of keys and values. A token's place is block · block size + position within it."""

    def __init__(self, graph: Graph, plan: Plan, dtype: type[np.floating[Any]]) -> None:
        check_kv_type(plan.kv_dtype)
        self.heads = graph.kv_groups
        self.kv_dtype = plan.kv_dtype
        width = np.dtype(dtype).itemsize
        groups = tuple(KVGroup(h.layers, h.window, _numbers(h) * width) for h in self.heads)
        self.layout = divided(groups, plan, graph.context_length)
        places = self.layout.num_blocks * plan.block_size
        self._place = {n: (g, i) for g, h in enumerate(self.heads) for i, n in enumerate(h.layers)}
        self._kv_G = [
            np.zeros((len(h.layers), 2, places, h.num_heads, h.head_dim), dtype) for h in self.heads
        ]

    def attend(
        self, batch: Batch, q_TK: Array, k_TK: Array, v_TK: Array, attrs: Mapping[str, Any]
    ) -> Array:
        """Write the rows, then let each read the places it sees, all of them or a window's."""
        group, index = self._place[attrs["layer"]]
        keys, values = self._kv_G[group][index]
        shape = (len(q_TK), attrs["num_kv_heads"], attrs["head_dim"])
        k_TGD, v_TGD = k_TK.reshape(shape), v_TK.reshape(shape)
        q_THD = q_TK.reshape(len(q_TK), attrs["num_heads"], attrs["head_dim"])
        out_THD = np.empty_like(q_THD)
        starts = batch.starts_S1.tolist()
        for sequence, (start, stop) in enumerate(pairwise(starts)):
            if start == stop:
                continue
            rows, positions = slice(start, stop), batch.positions_T[start:stop]
            window = attrs["window"]
            first = 0 if window is None else max(0, int(positions[0]) - window + 1)
            table = batch.blocks_G[group][sequence]
            written = self._places(table, positions)
            keys[written] = rounded(k_TGD[rows], self.kv_dtype)
            values[written] = rounded(v_TGD[rows], self.kv_dtype)
            seen = self._places(table, np.arange(first, positions[-1] + 1))
            k_PGD, v_PGD = keys[seen], values[seen]
            for row, position in zip(range(start, stop), positions.tolist(), strict=True):
                low = 0 if window is None else max(0, position - window + 1)
                part = slice(low - first, position + 1 - first)
                out_THD[row] = numerics.attend(
                    q_THD[row], k_PGD[part], v_PGD[part], attrs["scale"], attrs["softcap"]
                )
        return out_THD.reshape(q_TK.shape)

    def _places(self, table: Sequence[int], positions: Array) -> Array:
        size = self.layout.block_size
        return np.asarray(table)[positions // size] * size + positions % size

    def copy(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        size = self.layout.block_size
        for group, source, target in pairs:
            kv = self._kv_G[group]
            kv[:, :, target * size : (target + 1) * size] = kv[
                :, :, source * size : (source + 1) * size
            ]


def _numbers(heads: KVHeads) -> int:
    """How many numbers a token takes in all layers of a group."""
    return len(heads.layers) * 2 * heads.num_heads * heads.head_dim
