"""The cache that a model of transformers is given: its past, read from our blocks at every step.

Each layer's `update` writes the new keys and values to their places and gives back everything that
the rows may see, gathered by the block tables. So nothing of a sequence lives outside its blocks,
and rollback, shared prefixes, copied blocks and preemption need no bookkeeping here.

Sequences with pasts of different length stand side by side with their ends aligned, the shorter
ones padded in front, as the library's own `generate` does it. Sliding windows are the library's
masks' affair: it is told of the whole past.

Legend: B sequences side by side, N rows of each, P places of the longest past, G heads, D head
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from llama_core.errors import LlamaError
from llama_plugin_torch.memory import LayerShape, Memory

# Layers whose whole state is keys and values by token. Others hold a state that blocks cannot.
PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)


class StateNotByToken(LlamaError):
    """A model remembers something that is not keys and values of each token."""

    code = "model_state_not_by_token"


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where one forward pass reads and writes."""

    past: int  # P, padding included
    seen_BPN: Tensor  # P + N places of each sequence
    written: Tensor  # B · N places


class BlockLayer(CacheLayerMixin):
    """One layer's keys and values, lying in blocks."""

    is_sliding = False

    def __init__(self, layer: int, memory: Memory, places: Places) -> None:
        super().__init__()
        self._layer, self._memory, self._places = layer, memory, places
        self._length = places.past
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """The blocks are there already."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        given = [x.transpose(1, 2).flatten(0, 1) for x in (key_states, value_states)]
        self._memory.write(self._layer, self._places.written, *given)
        keys, values = self._memory.read(self._layer, self._places.seen_BPN)
        self.keys = keys.transpose(1, 2).to(key_states.dtype)
        self.values = values.transpose(1, 2).to(value_states.dtype)
        self._length = self.keys.shape[2]
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        return self._length

    def get_max_length(self) -> int:
        return -1


def block_cache(layers: Sequence[LayerShape | None], memory: Memory, places: Places) -> Cache:
    """The cache of one forward pass; None stands for a layer that remembers nothing."""
    return Cache(
        layers=[
            DummyLayer() if one is None else BlockLayer(one.layer, memory, places) for one in layers
        ]
    )


def layer_shapes(cache: Any) -> list[LayerShape | None]:
    """What each layer of a cache that the library filled itself remembers of a token."""
    if not isinstance(cache, Cache):
        raise StateNotByToken(f"the model keeps its past in a {type(cache).__name__}")
    shapes: list[LayerShape | None] = []
    for index, layer in enumerate(cache.layers):
        kind: Any = type(layer)
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if kind is DummyLayer or (kind in PLAIN and (keys is None or values is None)):
            shapes.append(None)
        elif kind in PLAIN and keys is not None and values is not None:
            (_, heads, _, size), (_, value_heads, _, value_size) = keys.shape, values.shape
            shapes.append(LayerShape(index, (heads, size), (value_heads, value_size)))
        else:
            raise StateNotByToken(
                f"layer {index} keeps its past in a {type(layer).__name__}",
                remedy="Only keys and values of each token can be shared, cut and rolled back.",
            )
    return shapes
