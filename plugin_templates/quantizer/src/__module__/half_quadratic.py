"""Half-quadratic quantization (Badri and Shaji 2023): offsets fitted to few large errors.

Legend: N rows, G groups a row, g numbers a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from llama_core.errors import LlamaError
from llama_core.model.encodings import parse_encoding
from llama_core.model.encodings.affine import Affine
from llama_core.model.encodings.base import rows_and_columns
from llama_core.model.graph import Graph
from llama_core.model.weights import About, MappedWeights, Tensor, Weights
from numpy.typing import NDArray

WHOLE = ("lm_head", "*.router")  # nodes whose weights stay as they are
NORM = 0.7  # below 1: a few large errors may stay large
STRENGTH, GROWTH = 10.0, 1.01  # of the pull towards no error, and how it grows by the round
ROUNDS = 20
LARGEST = float(np.finfo(np.float16).max) / 2  # so that scales and minimums stay finite

Floats = NDArray[np.float32]


class HalfQuadratic:
    """Codes of `bits` bits in groups of `group` numbers with a scale and an offset each."""

    needs_calibration = False

    def __init__(self, bits: int = 4, group: int = 64) -> None:
        self.bits = bits
        self.group = group
        self._encoding = parse_encoding(f"q{bits}:g{group}:min")

    def quantize(
        self, graph: Graph, weights: Weights, calibration: Iterable[Sequence[int]]
    ) -> Weights:
        chosen = {
            weight
            for node in graph.nodes
            if node.op in ("linear", "moe")
            and not any(fnmatchcase(node.name, pattern) for pattern in WHOLE)
            for role, weight in node.weights.items()
            if role not in ("bias", "input_scale")
        }

        def change(name: str, one: Tensor) -> Tensor:
            return self._coded(name, one) if name in chosen else one

        def about(name: str, one: About) -> About:
            return About(one.shape, self._encoding) if name in chosen else one

        return MappedWeights(weights, change, about)

    def _coded(self, name: str, one: Tensor) -> Tensor:
        rows, columns = rows_and_columns(one.shape)
        x_NK = one.decode().reshape(rows, columns)
        if not (np.abs(x_NK) < LARGEST).all():
            raise LlamaError(
                f"{name} has numbers that are not finite, or above {LARGEST:,.0f}: no scale of "
                "16 bits holds them",
                remedy="Look into the model: llama show MODEL --check",
            )
        groups = -(-columns // self.group)
        padded = np.pad(x_NK, ((0, 0), (0, groups * self.group - columns)), mode="edge")
        x_NGg = padded.reshape(rows, groups, self.group)
        codes, scales, minimums = fitted(x_NGg, (1 << self.bits) - 1)
        codes_NK = codes.reshape(rows, -1)[:, :columns]
        view = Affine(self.bits, self.group, codes_NK, scales, minimums=minimums)
        return Tensor(one.shape, self._encoding, self._encoding.pack(view, one.shape))


def fitted(x_NGg: Floats, top: int) -> tuple[NDArray[np.uint8], NDArray, NDArray]:
    """Codes 0 to `top`, and by group the scale and the minimum as they are stored (float16)."""
    low_NG, high_NG = x_NGg.min(-1), x_NGg.max(-1)
    scale_NG = ((high_NG - low_NG) / np.float32(top)).astype(np.float16)
    scale_NG[scale_NG == 0] = 1  # all equal: the minimum says it all
    steps_NGg = x_NGg / scale_NG.astype(np.float32)[..., None]  # in steps of the scale
    zero_NG = _zero(steps_NGg, -low_NG / scale_NG.astype(np.float32), top)
    minimum_NG = (-zero_NG * scale_NG.astype(np.float32)).astype(np.float16)
    stored_NG = minimum_NG.astype(np.float32) / scale_NG.astype(np.float32)
    codes_NGg = np.rint(steps_NGg - stored_NG[..., None]).clip(0, top)
    return codes_NGg.astype(np.uint8), scale_NG, minimum_NG


def _zero(steps_NGg: Floats, zero_NG: Floats, top: int) -> Floats:
    """The best zero point of each group: errors are split into few that stay and many that go."""
    strength = STRENGTH
    best_NG, least_NG = zero_NG, np.full(zero_NG.shape, np.inf, np.float32)
    for _ in range(ROUNDS):
        codes_NGg = np.rint(steps_NGg + zero_NG[..., None]).clip(0, top)
        error_NGg = steps_NGg - (codes_NGg - zero_NG[..., None])
        size_NGg = np.abs(error_NGg)
        loss_NG = (size_NGg**NORM).mean(-1)
        best_NG = np.where(loss_NG < least_NG, zero_NG, best_NG)
        least_NG = np.minimum(loss_NG, least_NG)
        with np.errstate(divide="ignore"):  # no error at all: nothing stays
            shrunk_NGg = np.maximum(size_NGg - size_NGg ** (NORM - 1) / strength, 0)
        staying_NGg = np.sign(error_NGg) * shrunk_NGg
        zero_NG = (codes_NGg - (steps_NGg - staying_NGg)).mean(-1)
        strength *= GROWTH
    return best_NG
