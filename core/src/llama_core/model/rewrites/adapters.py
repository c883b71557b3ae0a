"""Adapters: puts a `lora` node behind chosen linears, with empty slots for low-rank matrices.

What fills the slots comes later, into the compiled program (`load_adapter`), so that adapters come
and go without compiling again. Each row names its slot; slot -1 leaves the row as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from llama_core.contracts.rewrite import Phase
from llama_core.model import ops
from llama_core.model.graph import FrozenMap, Graph, GraphError, Node
from llama_core.model.weights import DenseWeights, OverlayWeights, Weights

PROJECTIONS = tuple(
    f"*.{part}_proj" for part in ("q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down")
)


class AddAdapters:
    """`targets` are patterns of linears' names."""

    phase: Phase = "lora"
    neutral = True  # until a slot is filled

    def __init__(self, slots: int, rank: int, targets: Iterable[str] = PROJECTIONS) -> None:
        self.slots = slots
        self.rank = rank
        self.targets = tuple(targets)

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        chosen = {
            node.name: node
            for node in graph.of("linear")
            if any(fnmatchcase(node.name, pattern) for pattern in self.targets)
        }
        if not chosen:
            raise GraphError("adapters", [f"no linear is named like {', '.join(self.targets)}"])
        rows = {name: shape[0] for name, shape in graph.value_shapes().items()}
        slots: dict[str, tuple[int, ...]] = {}
        nodes: list[Node] = []
        for node in graph.nodes:
            reads = tuple(f"{v}.lora" if v in chosen else v for v in node.inputs)
            nodes.append(replace(node, inputs=reads))
            if node.name not in chosen:
                continue
            outer, inner = graph.shapes[node.weights["weight"]]
            roles = {"a": f"{node.name}.lora.a", "b": f"{node.name}.lora.b"}
            slots[roles["a"]] = (self.slots, self.rank, inner)
            slots[roles["b"]] = (self.slots, outer, self.rank)
            of_rows = "adapters"
            if rows[node.name] == "R":
                of_rows = f"{node.name}.adapters"
                nodes.append(ops.node("gather", of_rows, ("adapters", "rows")))
            inputs = (node.name, reads[0], of_rows)
            nodes.append(ops.node("lora", f"{node.name}.lora", inputs, roles))
        outputs = {k: f"{v}.lora" if v in chosen else v for k, v in graph.outputs.items()}
        empty = DenseWeights({name: np.zeros(shape, np.float32) for name, shape in slots.items()})
        new = replace(
            graph,
            nodes=tuple(nodes),
            shapes=graph.shapes.also(**slots),
            outputs=FrozenMap(outputs),
            rewrites=(*graph.rewrites, f"adapters({self.slots} of rank {self.rank})"),
        )
        return new.validate(), OverlayWeights(weights, empty)
