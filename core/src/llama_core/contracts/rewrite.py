"""A rewrite is a pure function from a model to a model: fuse, quantize, shard, lora, pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights

Phase = Literal["quantize", "shard", "lora", "fuse", "pack"]
PHASES: tuple[Phase, ...] = ("quantize", "shard", "lora", "fuse", "pack")  # the order they run in


class Rewrite(Protocol):
    """Gives a new graph and a lazy view of the weights; changes neither of those it was given.

    The new graph's record of `rewrites` goes on from the given one's.
    """

    phase: Phase
    neutral: bool  # the logits stay what they were, up to the order of additions

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        """The rewritten model."""


SPEC: Spec[Rewrite] = Spec("rewrite", Rewrite, "llama_create_rewrite")
