"""Keys and values of past tokens in blocks, on the device. Whose a block is, it does not know.

A token's place is block · block size + position within the block. One place more than there are
holds zeros for ever: short pasts beside long ones are padded with it, so that what an earlier
owner left in a block, NaN perhaps, never enters a product.

Legend: T rows, S sequences side by side, P places read of each, G key heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_core.contracts.program import KVGroup
from llama_core.contracts.step import Plan
from llama_core.model import programs
from llama_plugin_torch.arithmetic import quantize_rows
from llama_plugin_torch.dtypes import COMPUTE, kv_type

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer remembers of a token: heads by head size, of keys and of values."""

    layer: int
    keys: Shape
    values: Shape


@dataclass(frozen=True, slots=True)
class GroupShape:
    """Layers under one block table."""

    layers: tuple[LayerShape, ...]
    window: int | None


class Store:
    """Keys, or values, of one layer."""

    def __init__(self, places: int, shape: Shape, kind: str, device: torch.device) -> None:
        dtype = COMPUTE.get(kind, torch.int8)
        self.numbers = torch.zeros((places, *shape), dtype=dtype, device=device)
        self.scales = None  # in 8 bits: one for each token and head, written once
        if kind == "q8":
            self.scales = torch.zeros((places, shape[0]), device=device)

    def write(self, places_T: Tensor, x_TGD: Tensor) -> None:
        if self.scales is None:
            self.numbers[places_T] = x_TGD.to(self.numbers.dtype)
            return
        codes, scale = quantize_rows(x_TGD.float().flatten(0, 1), x_TGD.shape[-1])
        self.numbers[places_T] = codes.view(x_TGD.shape).to(torch.int8)
        self.scales[places_T] = scale.view(x_TGD.shape[:2])

    def read(self, places_SP: Tensor, dtype: torch.dtype) -> Tensor:
        flat = places_SP.flatten()
        x = self.numbers.index_select(0, flat)
        if self.scales is not None:
            x = x.float() * self.scales.index_select(0, flat)[..., None]
        return x.to(dtype).unflatten(0, places_SP.shape)

    def copy(self, source: slice, target: slice) -> None:
        for x in (self.numbers, self.scales):
            if x is not None:
                x[target] = x[source].clone()


class Memory:
    """All layers' stores, and the layout that the engine is told."""

    def __init__(
        self,
        groups: Sequence[GroupShape],
        plan: Plan,
        compute: torch.dtype,
        device: torch.device,
        context_length: int | None = None,
    ) -> None:
        self.dtype = compute
        self.kind = kind = kv_type(plan.kv_dtype, compute)
        told = tuple(
            KVGroup(
                tuple(one.layer for one in group.layers),
                group.window,
                sum(
                    _bytes(shape, kind) for one in group.layers for shape in (one.keys, one.values)
                ),
            )
            for group in groups
        )
        self.layout = programs.divided(told, plan, context_length)
        self.zero_place = self.layout.num_blocks * plan.block_size
        self.group_of = {one.layer: g for g, group in enumerate(groups) for one in group.layers}
        places = self.zero_place + 1
        self._stores = {
            one.layer: (
                Store(places, one.keys, kind, device),
                Store(places, one.values, kind, device),
            )
            for group in groups
            for one in group.layers
        }

    def write(self, layer: int, places_T: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> None:
        for store, x in zip(self._stores[layer], (k_TGD, v_TGD), strict=True):
            store.write(places_T, x)

    def read(self, layer: int, places_SP: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [S, P, G, D] in the type that is computed in."""
        keys, values = self._stores[layer]
        return keys.read(places_SP, self.dtype), values.read(places_SP, self.dtype)

    def copy(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        """Copy (group, from, to) blocks, all or, where one is out of range, none."""
        programs.check_copies(pairs, self.layout)
        size = self.layout.block_size
        for group, source, target in pairs:
            for layer in self.layout.groups[group].layers:
                for store in self._stores[layer]:
                    store.copy(_places(source, size), _places(target, size))

    def close(self) -> None:
        self._stores.clear()


def _places(block: int, size: int) -> slice:
    return slice(block * size, (block + 1) * size)


def _bytes(shape: Shape, kind: str) -> int:
    """What a token's keys, or values, take in one layer."""
    heads, size = shape
    return heads * (size + 4) if kind == "q8" else heads * size * COMPUTE[kind].itemsize
