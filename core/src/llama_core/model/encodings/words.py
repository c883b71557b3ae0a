"""What the layouts of 32-bit words share: packing whole codes into words, groups along the inputs.

GPTQ, AWQ and compressed-tensors each arrange such words differently; that is theirs to know.
"""

from __future__ import annotations

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme
from llama_core.model.encodings.base import (
    Array,
    Shape,
)
from llama_core.model.encodings.grouped import AffineLayout

FLOATS = ("float16", "float32", "uint16")  # uint16 parts are bfloat16


def pack_words(codes_NK: Array, bits: int) -> Array:
    """As many whole codes to an int32 as fit, lowest first; what is over stays zero."""
    per_word = 32 // bits
    rows, columns = codes_NK.shape
    padded = np.pad(codes_NK, ((0, 0), (0, -columns % per_word))).astype(np.uint32)
    lanes = padded.reshape(rows, padded.shape[1] // per_word, per_word)
    words = np.zeros(lanes.shape[:2], np.uint32)
    for lane in range(per_word):
        words |= lanes[..., lane] << np.uint32(lane * bits)
    return words.view(np.int32)


def unpack_words(words_NW: Array, bits: int, columns: int) -> Array:
    """The reverse of `pack_words`."""
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    words = np.ascontiguousarray(words_NW).view(np.uint32)[..., None]
    codes = ((words >> shifts) & np.uint32((1 << bits) - 1)).astype(np.uint8)
    return codes.reshape(words_NW.shape[0], words_NW.shape[1] * (32 // bits))[:, :columns]


def in_plain_order(g_idx: Array, group: int) -> bool:
    """Whether a group index says no more than that groups follow one another."""
    return bool(np.array_equal(g_idx, np.arange(g_idx.size) // max(group, 1)))


def grouping(g_idx: Array, group: int) -> tuple[Array | None, bool]:
    """The input order a group index stands for, and whether its groups are all of full size."""
    if in_plain_order(g_idx, group):
        return None, True
    plain = np.arange(g_idx.size) // group
    order = np.argsort(g_idx, kind="stable").astype(np.int32)
    return order, bool(np.array_equal(g_idx[order], plain))


class WordLayout(AffineLayout):
    """What the three have in common: matrices, grouped along the inputs."""

    __slots__ = ()
    bits: int
    group: int

    def scheme(self) -> Scheme:
        return Scheme(self.bits, self.group, "zero")

    def granularity(self, shape: Shape, axis: int) -> int:
        if axis % len(shape) == 0:
            return 32 // np.gcd(self.bits, 32)
        return int(np.lcm(self.group or shape[-1], 32 // np.gcd(self.bits, 32)))

    def matrix_faults(self, shape: Shape, rows_in: int, columns_in: int) -> list[str]:
        if len(shape) != 2:
            return [f"'{self}' holds matrices, not shape {list(shape)}"]
        if shape[0] % rows_in or shape[1] % columns_in:
            return [f"shape {list(shape)} does not fill words of '{self}'"]
        return []

    def zeros_of(self, view: Affine) -> Array:
        if view.zeros is not None:
            return view.zeros
        return np.full(view.scales.shape, 1 << (self.bits - 1), np.uint8)

    def num_groups(self, columns: int) -> int:
        return -(-columns // self.group) if self.group else 1
