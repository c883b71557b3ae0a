"""The samplers that come with core: each chooses one token a row from what the transforms left.

They know logits and the random numbers they are handed, nothing of requests or batches. Legend:
N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.transform import SamplingContext
from llama_core.errors import OptionsError

Logits = NDArray[np.float32]
Uniforms = NDArray[np.float64]


def draw(logits_V: NDArray[Any], number: float) -> int:
    """The token whose part of the distribution holds `number`, in the order of ids.

    Running sums in double precision, token after token: forbidden tokens add nothing, so the
    result is the same on all of the vocabulary and on the few tokens that are left of it.
    """
    sums_V = np.cumsum(np.exp(logits_V.astype(np.float64) - logits_V.max()))
    token = int(np.searchsorted(sums_V, number * sums_V[-1], side="right"))
    return min(token, len(logits_V) - 1)


class Greedy:
    """The likeliest token; of equals the one with the smallest id."""

    is_argmax = True
    standard = "greedy", 0.0

    def __call__(
        self, logits_NV: Logits, uniforms_N: Uniforms, context: SamplingContext
    ) -> NDArray[np.int64]:
        return logits_NV.argmax(-1)


class Multinomial:
    """A token with the probability that the logits give it."""

    standard = "sample", 0.0

    def __call__(
        self, logits_NV: Logits, uniforms_N: Uniforms, context: SamplingContext
    ) -> NDArray[np.int64]:
        tokens = np.empty(len(logits_NV), np.int64)
        for n, logits_V in enumerate(logits_NV):
            left = np.flatnonzero(logits_V > -np.inf)
            tokens[n] = left[draw(logits_V[left], uniforms_N[n])] if len(left) else 0
        return tokens


class Mirostat:
    """Mirostat 2 (Basu et al. 2021): keeps the surprise of what is chosen near `tau` bits.

    Tokens more surprising than `mu` are dropped; `mu` then moves by `eta` of the error.
    """

    def __init__(self, tau: float = 5.0, eta: float = 0.1) -> None:
        if not tau > 0 or not 0 < eta <= 1:
            raise OptionsError(
                f"mirostat needs tau above 0 and eta above 0 up to 1, not {tau} and {eta}"
            )
        self.tau = tau
        self.eta = eta
        self._mu = [2.0 * tau]  # one more after each accepted token
        self._left: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    @property
    def mu(self) -> float:
        return self._mu[-1]

    def __call__(
        self, logits_NV: Logits, uniforms_N: Uniforms, context: SamplingContext
    ) -> NDArray[np.int64]:
        return np.array(
            [self._row(row_V, number) for row_V, number in zip(logits_NV, uniforms_N, strict=True)],
            np.int64,
        )

    def _row(self, logits_V: Logits, number: float) -> int:
        wide_V = logits_V.astype(np.float64)
        log2_V = (wide_V - wide_V.max()) / np.log(2)
        log2_V -= np.log2(np.exp2(log2_V).sum())
        left = np.flatnonzero(-log2_V <= self.mu)
        if not len(left):
            left = np.array([int(log2_V.argmax())])
        rest = log2_V[left] - np.log2(np.exp2(log2_V[left]).sum())
        self._left = left, rest
        return int(left[draw(logits_V[left], number)])

    def accept(self, token: int) -> None:
        surprise = self.tau  # a token chosen elsewhere says nothing
        if self._left is not None:
            left, log2 = self._left
            at = int(np.searchsorted(left, token))
            if at < len(left) and left[at] == token:
                surprise = -float(log2[at])
        self._left = None
        self._mu.append(self.mu - self.eta * (surprise - self.tau))

    def rollback(self, count: int) -> None:
        if count:
            del self._mu[-count:]


SAMPLERS: dict[str, type[Any]] = {
    "greedy": Greedy,
    "sample": Multinomial,
    "mirostat": Mirostat,
}
