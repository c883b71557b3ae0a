"""Mixing by weight: which source a row comes from, and which of its rows that is, by number alone.

Rows come in cycles; in each, every source has its share, spread evenly, so that any stretch of rows
is mixed as the whole is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from llama_plugin_train.data.faults import DataError

CYCLE = 1000  # rows; a weight is kept to a thousandth

Indices = np.ndarray[Any, np.dtype[np.int64]]


class Mixture:
    """Sources by number, each with a weight."""

    def __init__(self, weights: Sequence[float]) -> None:
        if not weights or not all(math.isfinite(one) and one > 0 for one in weights):
            raise DataError(
                f"weights {list(weights)} cannot be mixed by", remedy="Give positive numbers."
            )
        if len(weights) > CYCLE:
            raise DataError(f"{len(weights)} sources are more than the {CYCLE} that can be mixed")
        self.shares = _shares(np.array(weights, np.float64))
        owners = np.repeat(np.arange(len(weights)), self.shares)
        ranks = np.concatenate([np.arange(share) for share in self.shares])
        order = np.lexsort((owners, (ranks + 0.5) / self.shares[owners]))
        self._owner, self._rank = owners[order], ranks[order]

    def find(self, rows: Indices) -> tuple[Indices, Indices]:
        """For rows of the mixture, the source of each and the number of its row."""
        cycle, at = np.divmod(rows, CYCLE)
        owner = self._owner[at]
        return owner, cycle * self.shares[owner] + self._rank[at]


def _shares(weights: Any) -> Any:
    """Whole numbers that add up to a cycle: by the largest remainder, none without any."""
    exact = weights / weights.sum() * CYCLE
    shares = np.maximum(np.floor(exact), 1).astype(np.int64)
    while (missing := CYCLE - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        behind = (exact - shares) * step
        behind[(shares + step) < 1] = -np.inf
        shares[np.argmax(behind)] += step
    return shares
