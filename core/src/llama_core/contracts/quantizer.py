"""A quantizer chooses codes and scales for a model's weights; the encodings say how they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights


class Quantizer(Protocol):
    """Re-encodes weights, with or without looking at what the model does with them."""

    needs_calibration: bool

    def quantize(
        self, graph: Graph, weights: Weights, calibration: Iterable[Sequence[int]]
    ) -> Weights:
        """The same tensors under new encodings, lazily; `calibration` yields token sequences."""


SPEC: Spec[Quantizer] = Spec("quantizer", Quantizer, "llama_create_quantizer")
