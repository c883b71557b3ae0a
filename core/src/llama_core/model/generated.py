"""Random weights for any graph, for tests and measurements that need a model but not its words.

Seeded and scaled so that nothing hides: norms differ from one, biases from zero, and logits
spread by about three, since in a model initialized as for training a missing soft cap or a wrong
window moves logits by less than rounding does.
"""

from __future__ import annotations

import numpy as np

from llama_core.model.graph import Graph
from llama_core.model.weights import DenseWeights, Weights

LOGIT_SPREAD = 3.0


def random_array(
    name: str, shape: tuple[int, ...], generator: np.random.Generator, offset: float = 0.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A weight's numbers by what its name says it is; `offset` is what a norm adds to its own."""
    x = generator.standard_normal(shape, np.float32)
    if name.endswith("norm.weight"):
        return np.float32(1 - offset) + np.float32(0.3) * x
    if name.endswith(".bias"):
        return np.float32(0.5) * x
    # With matrices half as large again, rounding grows so fast from layer to layer that a float32
    # model of four layers and 1,500 tokens is 8e-5 from its own float64.
    spread = LOGIT_SPREAD if name.startswith(("embed", "lm_head")) else 1.0
    return x * np.float32(spread / np.sqrt(shape[-1]))


def random_weights(graph: Graph, seed: int) -> Weights:
    """One array for each weight of the graph."""
    generator = np.random.default_rng(seed)
    offsets = {n.weights["weight"]: n.attrs["offset"] for n in graph.of("rms_norm")}
    return DenseWeights(
        {
            name: random_array(name, shape, generator, offsets.get(name, 0.0))
            for name, shape in graph.shapes.items()
        }
    )
