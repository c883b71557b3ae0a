"""Adapters loaded into the slots of a compiled program: checked whole, then copied in place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from llama_core.contracts.step import Plan
from llama_core.model import programs
from llama_core.model.graph import Graph


def load(
    graph: Graph,
    plan: Plan,
    weights: Mapping[str, torch.Tensor],
    slot: int,
    adapter: Mapping[str, programs.Pair],
) -> None:
    """Fill a slot of every `lora` node; those that the adapter does not name add nothing."""
    for node, pair in programs.adapted(graph, plan, slot, adapter):
        for axis, role in enumerate(("a", "b")):
            held = weights[node.weights[role]][slot]
            held.zero_()
            if pair is not None:
                part = torch.from_numpy(np.array(pair[axis], np.float32))
                held[: part.shape[0], : part.shape[1]] = part.to(held)
