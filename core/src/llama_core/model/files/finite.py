"""Whether all numbers of a model are numbers. It reads everything, so it is done when asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llama_core.model.encodings.base import EncodingError
from llama_core.model.files.faults import quoted
from llama_core.model.weights import Tensor, Weights

REMEDY = "Get the model again; if it stays so, it was trained or converted wrong."

_CHUNK = 1 << 24  # numbers decoded at once


def numbers_at_fault(weights: Weights, done: Callable[[], None] = lambda: None) -> list[str]:
    """The tensors that hold a NaN or an infinity, with how many. `done` hears of each tensor."""
    faults = []
    for name in weights:
        with np.errstate(all="ignore"):  # what makes them is what is looked for
            count = _not_finite(weights[name])
        if count:
            faults.append(f"tensor {quoted(name)} holds {count} numbers that are NaN or infinite")
        done()
    return faults


def _not_finite(one: Tensor) -> int:
    if len(one.shape) < 2 or one.size <= _CHUNK:
        return int(np.count_nonzero(~np.isfinite(one.decode())))
    step = max(1, _CHUNK // (one.size // one.shape[0]))
    step = -(-step // one.granularity(0)) * one.granularity(0)
    count = 0
    for start in range(0, one.shape[0], step):
        try:
            part = one.cut(0, start, min(start + step, one.shape[0]))
        except EncodingError:  # cannot be cut: all at once
            return int(np.count_nonzero(~np.isfinite(one.decode())))
        count += int(np.count_nonzero(~np.isfinite(part.decode())))
    return count
