"""Act: sets the precision in which chosen linears and experts take their activations."""

from __future__ import annotations

from fnmatch import fnmatchcase

from llama_core.contracts.rewrite import Phase
from llama_core.model.graph import Graph, Node
from llama_core.model.weights import Weights


class SetAct:
    """`only` and `skip` are patterns of node names; the head and routers stay exact by default."""

    phase: Phase = "quantize"
    neutral = False

    def __init__(
        self, act: str, only: str = "*", skip: tuple[str, ...] = ("lm_head", "*.router")
    ) -> None:
        self.act = act
        self.only = only
        self.skip = tuple(skip)

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        def change(node: Node) -> Node:
            if "act" not in node.attrs or not fnmatchcase(node.name, self.only):
                return node
            if any(fnmatchcase(node.name, pattern) for pattern in self.skip):
                return node
            return node.with_attrs(act=self.act)

        return graph.map(change, f"act({self.act})").validate(), weights
