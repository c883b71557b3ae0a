"""Adapters loaded into the slots of a compiled program: checked whole, then copied in place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from llama_core.contracts.step import Plan
from llama_core.errors import LlamaError
from llama_core.model.graph import Graph, GraphError, Node

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def load(
    graph: Graph,
    plan: Plan,
    weights: Mapping[str, torch.Tensor],
    slot: int,
    adapter: Mapping[str, Pair],
) -> None:
    """Fill a slot of every `lora` node; those that the adapter does not name add nothing."""
    if not 0 <= slot < plan.adapter_slots:
        raise LlamaError(f"adapter slot {slot} of {plan.adapter_slots} is not there")
    nodes = {node.name.removesuffix(".lora"): node for node in graph.of("lora")}
    problems = []
    for name, pair in adapter.items():
        if name not in nodes:
            problems.append(f"{name}: no node of this name takes adapters")
        elif why := _misfit(graph, nodes[name], *pair):
            problems.append(f"{name}: {why}")
    if problems:
        raise GraphError("the adapter does not fit", problems)
    for name, node in nodes.items():
        for role, axis in (("a", 0), ("b", 1)):
            held = weights[node.weights[role]][slot]
            held.zero_()
            if name in adapter:
                part = torch.from_numpy(np.array(adapter[name][axis], np.float32))
                held[: part.shape[0], : part.shape[1]] = part.to(held)


def _misfit(graph: Graph, node: Node, a: NDArray[np.float32], b: NDArray[np.float32]) -> str | None:
    _, rank, inner = graph.shapes[node.weights["a"]]
    outer = graph.shapes[node.weights["b"]][1]
    if a.shape == (len(a), inner) and b.shape == (outer, len(a)) and len(a) <= rank:
        return None
    return (
        f"a {list(a.shape)} and b {list(b.shape)} do not fit rank {rank}, {inner} in, {outer} out"
    )
