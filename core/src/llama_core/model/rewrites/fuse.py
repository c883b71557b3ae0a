"""Fuse: says which nodes may run as one. It changes no node, so no logit and no name.

Linears that read one value in one precision can be one product (q, k, v; gate, up), and an RMS
norm can ride along with the addition before it. A backend that does not fuse ignores this.
"""

from __future__ import annotations

from dataclasses import replace

from llama_core.contracts.rewrite import Phase
from llama_core.model.graph import Graph, Group, Node
from llama_core.model.weights import Weights

KINDS = {("q_proj", "k_proj", "v_proj"): "qkv", ("gate_proj", "up_proj"): "gate_up"}


class Fuse:
    phase: Phase = "fuse"
    neutral = True

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        groups = (*graph.groups, *_linears(graph), *_norms(graph))
        return replace(graph, groups=groups, rewrites=(*graph.rewrites, "fuse")), weights


def _linears(graph: Graph) -> list[Group]:
    alike: dict[tuple[str, str, str | None], list[Node]] = {}
    for node in graph.of("linear"):  # a fixed scale is a linear's own
        key = (node.inputs[0], node.attrs["act"], node.weights.get("input_scale"))
        alike.setdefault(key, []).append(node)
    return [
        Group(
            KINDS.get(tuple(node.name.rpartition(".")[2] for node in nodes), "linears"),
            tuple(node.name for node in nodes),
        )
        for nodes in alike.values()
        if len(nodes) > 1
    ]


def _norms(graph: Graph) -> list[Group]:
    added = {node.name for node in graph.of("add")}
    return [
        Group("add_norm", (node.inputs[0], node.name))
        for node in graph.of("rms_norm")
        if node.inputs[0] in added
    ]
