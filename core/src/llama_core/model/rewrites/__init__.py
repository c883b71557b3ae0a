"""The rewrites that come with core, each a pure function from a model to a model.

A rewrite knows graphs and weights, and no backend. They run in the order of `PHASES`, whatever
order they are given in, and the graph keeps a record of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from llama_core.contracts.rewrite import PHASES, Rewrite
from llama_core.errors import MissingCapability, did_you_mean, sentence
from llama_core.model.graph import Graph
from llama_core.model.weights import Weights

# Name: module and class. Options are the class's arguments.
REWRITES: Mapping[str, tuple[str, str]] = {
    "act": ("act", "SetAct"),
    "adapters": ("adapters", "AddAdapters"),
    "fuse": ("fuse", "Fuse"),
    "pipeline": ("pipeline", "PipelineStage"),
    "reencode": ("reencode", "Reencode"),
    "tensor": ("tensor", "TensorSplit"),
}


def create(name: str, options: Mapping[str, Any]) -> Rewrite:
    """One of the table's rewrites."""
    if name not in REWRITES:
        remedy = sentence(did_you_mean(name, REWRITES), f"known are {', '.join(REWRITES)}")
        raise MissingCapability(f"there is no rewrite '{name}'", remedy=remedy)
    module, kind = REWRITES[name]
    made: Rewrite = getattr(import_module(f"{__name__}.{module}"), kind)(**options)
    return made


def apply(rewrites: Sequence[Rewrite], graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """All of them, phase by phase, and checked at the end."""
    for rewrite in sorted(rewrites, key=lambda one: PHASES.index(one.phase)):
        graph, weights = rewrite(graph, weights)
    return graph.validate(), weights
