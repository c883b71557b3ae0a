"""The transforms that look at the distribution alone: they sharpen it or cut its tail.

They know one request's logits and no history. Each gives new logits, -inf for what is dropped, and
never drops everything. Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.transform import SamplingContext
from llama_core.errors import OptionsError

Logits = NDArray[np.float32]
XTC_STREAM = 1  # of the random numbers; 0 is the sampler's


def bounded(name: str, value: float, low: float, high: float, *, above: bool = False) -> float:
    """The value, if it lies within its bounds; `above` excludes the lower one."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and value <= high
    if not fits or not (value > low if above else value >= low):
        bound = f"above {low:g}" if above else f"at least {low:g}"
        limit = "" if high == np.inf else f" and at most {high:g}"
        raise OptionsError(f"{name} must be {bound}{limit}, not {value!r}")
    return value


def log_softmax(logits_NV: NDArray[Any]) -> NDArray[np.float64]:
    wide_NV = logits_NV.astype(np.float64)
    wide_NV -= wide_NV.max(-1, keepdims=True)
    wide_NV -= np.log(np.exp(wide_NV).sum(-1, keepdims=True))
    return wide_NV


def drop(logits_NV: Logits, keep_NV: NDArray[np.bool_]) -> Logits:
    return np.where(keep_NV, logits_NV, np.float32(-np.inf))


def keep_mass(log_p_V: NDArray[np.float64], cost_V: NDArray[np.float64], mass: float) -> Any:
    """The cheapest tokens that together have the mass, of equals the smallest ids first."""
    order = np.argsort(cost_V, kind="stable")
    before = np.cumsum(np.exp(log_p_V[order]))
    count = 1 + int(np.searchsorted(before, mass, side="left"))
    keep_V = np.zeros(len(log_p_V), bool)
    keep_V[order[:count]] = True
    return keep_V


class Temperature:
    """Divides the logits: below 1 sharper, above 1 flatter.

    The bound keeps quotients finite; long before it nothing but the likeliest token is chosen.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = np.float32(bounded("temperature", temperature, 1e-6, 100))

    @property
    def standard(self) -> tuple[str, float]:
        return "temperature", float(self.temperature)

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        return logits_NV / self.temperature


class TopK:
    """Keeps the k likeliest tokens, and those equal to the last of them."""

    def __init__(self, k: int = 40) -> None:
        self.k = int(bounded("top-k's k", k, 1, np.inf))

    @property
    def standard(self) -> tuple[str, float]:
        return "top-k", self.k

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        if self.k >= logits_NV.shape[-1]:
            return logits_NV
        least_N1 = np.partition(logits_NV, -self.k, axis=-1)[:, [-self.k]]
        return drop(logits_NV, logits_NV >= least_N1)


class TopP:
    """Keeps the likeliest tokens that together have the probability p (Holtzman et al. 2020)."""

    def __init__(self, p: float = 0.95) -> None:
        self.p = bounded("top-p's p", p, 0, 1, above=True)

    @property
    def standard(self) -> tuple[str, float]:
        return "top-p", self.p

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        kept_NV = np.full_like(logits_NV, -np.inf)
        for kept_V, logits_V in zip(kept_NV, logits_NV, strict=True):
            left = np.flatnonzero(logits_V > -np.inf)
            log_p = log_softmax(logits_V[left])
            # Most of a vocabulary is far too unlikely to matter, and sorting it is what costs.
            likely = log_p > log_p.max() - 12
            if np.exp(log_p[likely]).sum() >= self.p:
                left, log_p = left[likely], log_p[likely]
            left = left[keep_mass(log_p, -log_p, self.p)]
            kept_V[left] = logits_V[left]
        return kept_NV


class MinP:
    """Drops tokens less than p times as likely as the likeliest."""

    def __init__(self, p: float = 0.05) -> None:
        self.p = bounded("min-p's p", p, 0, 1)
        self.log_p = np.float32(np.log(p)) if p else np.float32(-np.inf)

    @property
    def standard(self) -> tuple[str, float]:
        return "min-p", self.p

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        return drop(logits_NV, logits_NV >= logits_NV.max(-1, keepdims=True) + self.log_p)


class Typical:
    """Keeps the tokens whose surprise is nearest to the expected one (Meister et al. 2023)."""

    def __init__(self, p: float = 0.95) -> None:
        self.p = bounded("typical's p", p, 0, 1, above=True)

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        kept_NV = np.full_like(logits_NV, -np.inf)
        for kept_V, logits_V in zip(kept_NV, logits_NV, strict=True):
            left = np.flatnonzero(logits_V > -np.inf)
            log_p = log_softmax(logits_V[left])
            entropy = -(np.exp(log_p) * log_p).sum()
            left = left[keep_mass(log_p, np.abs(-log_p - entropy), self.p)]
            kept_V[left] = logits_V[left]
        return kept_NV


class TopNSigma:
    """Drops logits more than n standard deviations below the highest (Tang et al. 2024)."""

    def __init__(self, n: float = 1.0) -> None:
        self.n = bounded("top-n-sigma's n", n, 0, np.inf)

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        kept_NV = np.empty_like(logits_NV)
        for n, logits_V in enumerate(logits_NV):
            spread = logits_V[logits_V > -np.inf].astype(np.float64).std()
            kept_NV[n] = drop(logits_V, logits_V >= logits_V.max() - self.n * spread)
        return kept_NV


class XTC:
    """Exclude top choices: now and then drops all tokens above a threshold but the last of them."""

    def __init__(self, probability: float = 0.5, threshold: float = 0.1) -> None:
        self.probability = bounded("xtc's probability", probability, 0, 1)
        self.threshold = bounded("xtc's threshold", threshold, 0, 1)

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        if context.uniform(XTC_STREAM) >= self.probability:
            return logits_NV
        kept_NV = logits_NV.copy()
        for kept_V, p_V in zip(kept_NV, np.exp(log_softmax(logits_NV)), strict=True):
            above = np.flatnonzero(p_V >= self.threshold)
            if len(above) > 1:
                least = len(above) - 1 - int(p_V[above][::-1].argmin())  # of equals the last
                kept_V[np.delete(above, least)] = -np.inf
        return kept_NV


TRANSFORMS: dict[str, type[Any]] = {
    "temperature": Temperature,
    "top-k": TopK,
    "top-p": TopP,
    "min-p": MinP,
    "typical": Typical,
    "top-n-sigma": TopNSigma,
    "xtc": XTC,
}
