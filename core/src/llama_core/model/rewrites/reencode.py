"""Reencode: the weights of chosen linears in another encoding, by its reference rounding.

The seam through which quantizers work: the graph stays, only how its weights lie changes.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from llama_core.contracts.rewrite import Phase
from llama_core.model.encodings import Encoding
from llama_core.model.graph import Graph, GraphError
from llama_core.model.weights import About, Weights, reencoded


class Reencode:
    """`only` and `skip` are patterns of node names."""

    phase: Phase = "quantize"
    neutral = False

    def __init__(
        self,
        encoding: str | Encoding,
        only: str = "*",
        skip: tuple[str, ...] = ("lm_head", "*.router"),
    ) -> None:
        self.encoding = encoding
        self.only = only
        self.skip = tuple(skip)

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        chosen = {
            weight
            for node in graph.nodes
            if node.op in ("linear", "moe")
            and fnmatchcase(node.name, self.only)
            and not any(fnmatchcase(node.name, pattern) for pattern in self.skip)
            for role, weight in node.weights.items()
            if role not in ("bias", "input_scale")
        }
        if not chosen:
            raise GraphError("reencode", [f"no linear is named like {self.only!r}"])

        def choose(name: str, about: About) -> str | Encoding | None:
            return self.encoding if name in chosen else None

        done = (*graph.rewrites, f"reencode({self.encoding}, {self.only})")
        return replace(graph, rewrites=done), reencoded(weights, choose)
