"""Wanted rows leave early: what comes after the last attention is computed for them alone.

An architecture gathers the rows that give something at its end, ahead of the head. Whatever reads
single rows and feeds nothing but that gather may as well come after it: in a prompt's last layer
that is the projection of its attention and the whole feed-forward block. Rows are computed alone,
so no bit changes. Knows graphs; knows nothing of the library.
"""

from __future__ import annotations

from dataclasses import replace

from llama_core.model import ops
from llama_core.model.graph import FrozenMap, Graph, Node

BY_PLACE = frozenset({"embed", "rope", "attention"})  # the library reads where their rows stand


def gather_early(graph: Graph) -> Graph:
    """The same results, gathered as early as may be."""
    late = _late(graph)
    if not late:
        return graph
    gathered: dict[str, str] = {}  # by a value of all rows, that of its wanted ones
    instead: dict[str, str] = {}  # by a gather that is gone, what gives the same
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(instead.get(value, value) for value in node.inputs)
        source = node.inputs[0]
        if node.op == "gather" and (source in late or source in gathered):
            instead[node.name] = gathered.get(source, source)
            continue
        if node.op == "gather":
            gathered[source] = node.name
        if node.name in late:
            for value in node.inputs:
                if value not in late and value not in gathered:
                    gathered[value] = f"{value}.wanted"
                    nodes.append(ops.node("gather", gathered[value], (value, "rows")))
            inputs = tuple(gathered.get(value, value) for value in node.inputs)
        nodes.append(replace(node, inputs=inputs))
    outputs = {name: instead.get(value, value) for name, value in graph.outputs.items()}
    groups = tuple(one for one in graph.groups if instead.keys().isdisjoint(one.nodes))
    return replace(graph, nodes=tuple(nodes), outputs=FrozenMap(outputs), groups=groups).validate()


def _late(graph: Graph) -> set[str]:
    """Nodes whose rows are read by gathers alone, or by such nodes."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    fixed = {node.name for node in graph.nodes if node.op == "gather" or node.op in BY_PLACE}
    fixed.update(graph.outputs.values())
    late: set[str] = set()
    for node in reversed(graph.nodes):
        read = readers.get(node.name)
        if (
            read
            and node.name not in fixed
            and all(r.op == "gather" or r.name in late for r in read)
        ):
            late.add(node.name)
    return late
