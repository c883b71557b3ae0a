"""Top-n-sigma (Tang et al. 2024): few logits stand out of the noise, the rest is cut off.

Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

import numpy as np
from llama_core.contracts.transform import SamplingContext
from numpy.typing import NDArray


class TopNSigma:
    """Keeps tokens within `n` standard deviations of the highest logit, and draws one of them."""

    def __init__(self, n: float = 1.0) -> None:
        self.n = n

    def __call__(
        self,
        logits_NV: NDArray[np.float32],
        uniforms_N: NDArray[np.float64],
        context: SamplingContext,
    ) -> NDArray[np.int64]:
        rows = zip(logits_NV, uniforms_N, strict=True)
        return np.array([self._row(logits_V, number) for logits_V, number in rows], np.int64)

    def _row(self, logits_V: NDArray[np.float32], number: float) -> int:
        """`number` falls into the part of the distribution that belongs to the token."""
        possible = np.flatnonzero(logits_V > -np.inf)
        wide = logits_V[possible].astype(np.float64)
        kept = wide >= wide.max() - self.n * wide.std()
        left, wide = possible[kept], wide[kept]
        sums = np.cumsum(np.exp(wide - wide.max()))
        place = int(np.searchsorted(sums, number * sums[-1], side="right"))
        return int(left[min(place, len(left) - 1)])
