"""Ways to break our model: each gives a graph without one quirk, which parity must notice.

Knows the words of our graph alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llama_core.model.graph import FrozenMap, Graph, Node


def without(suffix: str) -> Callable[[Graph], Graph]:
    """Nodes of this name's end removed; who read them reads what they read."""

    def change(graph: Graph) -> Graph:
        gone = {n.name: n.inputs[0] for n in graph.nodes if n.name.endswith(suffix)}
        assert gone, f"the mutant '{suffix}' changes nothing"

        def real(value: str) -> str:
            while value in gone:
                value = gone[value]
            return value

        nodes = tuple(
            replace(n, inputs=tuple(map(real, n.inputs))) for n in graph.nodes if n.name not in gone
        )
        outputs = {name: real(value) for name, value in graph.outputs.items()}
        return replace(graph, nodes=nodes, outputs=FrozenMap(outputs))

    return change


def attrs(suffix: str, **changes: Any) -> Callable[[Graph], Graph]:
    """Nodes of this name's end with other attributes."""

    def change(node: Node) -> Node:
        return node.with_attrs(**changes) if node.name.endswith(suffix) else node

    return lambda graph: graph.map(change, "mutant")


def no_bias(*suffixes: str) -> Callable[[Graph], Graph]:
    """Linears of these names' ends without their bias."""

    def change(node: Node) -> Node:
        if not node.name.endswith(suffixes):
            return node
        assert "bias" in node.weights, f"{node.name} has no bias to lose"
        return node.with_weights({"weight": node.weights["weight"]})

    return lambda graph: graph.map(change, "mutant")


def swapped(first: str, second: str) -> Callable[[Graph], Graph]:
    """Two slices of a fused tensor that change places."""

    def change(graph: Graph) -> Graph:
        ends = {n.name: n for n in graph.nodes}

        def other(node: Node) -> Node:
            for mine, its in ((first, second), (second, first)):
                if node.name.endswith(mine):
                    return replace(node, attrs=ends[node.name.removesuffix(mine) + its].attrs)
            return node

        return graph.map(other, "mutant")

    return change
