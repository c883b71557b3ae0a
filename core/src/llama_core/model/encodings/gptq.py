"""GPTQ's and AWQ's checkpoints: `gptq:q4:g128`, `gptq:q4:g128:order`, `awq:q4:g128`.

GPTQ packs along the inputs, its zero points along the outputs, and may group the inputs in an order
of its own; AWQ packs along the outputs, eight at a time in a shuffled order. The parts carry the
names they have in those files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from llama_core.model.encodings import bits as bitstream
from llama_core.model.encodings.affine import Affine
from llama_core.model.encodings.base import (
    Array,
    EncodingError,
    Parts,
    Shape,
    part_faults,
    register_parser,
)
from llama_core.model.encodings.plain import as_float32
from llama_core.model.encodings.words import FLOATS, WordLayout, grouping, pack_words, unpack_words


def _pack_stream(codes_NK: Array, bits: int) -> Array:
    """Three-bit codes run over the ends of GPTQ's words."""
    return np.ascontiguousarray(bitstream.pack(codes_NK, bits)).view(np.int32)


def _unpack_stream(words_NW: Array, bits: int, columns: int) -> Array:
    return bitstream.unpack(np.ascontiguousarray(words_NW).view(np.uint8), bits, columns)


@dataclass(frozen=True, slots=True)
class Gptq(WordLayout):
    """`qweight` [K·b/32, N], `qzeros` [G, N·b/32], `scales` [G, N], `g_idx` [K] where ordered.

    The first version of the format stores each zero point less one; `v2` stores it as it is.
    """

    bits: int
    group: int = 0
    ordered: bool = False
    v2: bool = False

    @property
    def name(self) -> str:
        text = f"gptq:q{self.bits}:" + (f"g{self.group}" if self.group else "row")
        return text + (":order" if self.ordered else "") + (":v2" if self.v2 else "")

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        rows, columns = shape
        group = self.group or columns
        codes = _unpack_stream(np.ascontiguousarray(parts["qweight"].T), self.bits, columns)
        zeros = _unpack_stream(parts["qzeros"], self.bits, rows)
        if not self.v2:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << self.bits) - 1)
        scales = as_float32(parts["scales"])
        if not self.ordered:
            return Affine(self.bits, group, codes, scales.T, zeros.T)
        g_idx = parts["g_idx"]
        order, even = grouping(g_idx, group)
        if not even:  # uneven groups: each column with scales of its own
            return Affine(self.bits, 1, codes, scales[g_idx].T, zeros[g_idx].T)
        if order is not None:
            codes = codes[:, order]
        return Affine(self.bits, group, codes, scales.T, zeros.T, order=order)

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        if faults := self._shape_faults(shape):
            raise EncodingError(faults[0])
        columns = shape[1]
        g_idx = (np.arange(columns) // (self.group or columns)).astype(np.int32)
        codes = view.codes
        if view.order is not None:
            g_idx[view.order] = g_idx.copy()
            codes = np.empty_like(codes)
            codes[:, view.order] = view.codes
        zeros = np.ascontiguousarray(self.zeros_of(view).T)
        if not self.v2:
            zeros = (zeros - np.uint8(1)) & np.uint8((1 << self.bits) - 1)
        parts = {
            "qweight": np.ascontiguousarray(_pack_stream(codes, self.bits).T),
            "qzeros": _pack_stream(zeros, self.bits),
            "scales": np.ascontiguousarray(view.scales.T),
        }
        return parts | ({"g_idx": g_idx} if self.ordered else {})

    def granularity(self, shape: Shape, axis: int) -> int:
        if self.ordered and axis % len(shape) == 1:
            return shape[1]
        return WordLayout.granularity(self, shape, axis)

    def _shape_faults(self, shape: Shape) -> list[str]:
        step = 32 // int(np.gcd(self.bits, 32))
        return self.matrix_faults(shape, step, step)

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if faults := self._shape_faults(shape):
            return faults
        rows, columns = shape
        groups = self.num_groups(columns)
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "qweight": (("int32",), (columns * self.bits // 32, rows)),
            "qzeros": (("int32",), (groups, rows * self.bits // 32)),
            "scales": (FLOATS, (groups, rows)),
        }
        if self.ordered:
            expected["g_idx"] = (("int32",), (columns,))
        faults = part_faults(parts, expected)
        if not faults and self.ordered:
            g_idx = parts["g_idx"]
            if columns and not 0 <= g_idx.min() <= g_idx.max() < groups:
                faults.append(f"part 'g_idx' points outside the {groups} groups")
        return faults


_AWQ_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])  # nibble i of a word holds this column


@dataclass(frozen=True, slots=True)
class Awq(WordLayout):
    """`qweight` [K, N/8], `qzeros` [G, N/8], `scales` [G, N]; always four bits."""

    group: int = 128

    @property
    def bits(self) -> int:  # type: ignore[override]
        return 4

    @property
    def name(self) -> str:
        return "awq:q4:" + (f"g{self.group}" if self.group else "row")

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        rows, columns = shape
        codes, zeros = (_from_awq(parts[part], rows) for part in ("qweight", "qzeros"))
        return Affine(4, self.group or columns, codes.T, as_float32(parts["scales"]).T, zeros.T)

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        if faults := self.matrix_faults(shape, 8, 1):
            raise EncodingError(faults[0])
        return {
            "qweight": _to_awq(view.codes.T),
            "qzeros": _to_awq(self.zeros_of(view).T),
            "scales": np.ascontiguousarray(view.scales.T),
        }

    def granularity(self, shape: Shape, axis: int) -> int:
        return 8 if axis % len(shape) == 0 else self.group or shape[-1]

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if faults := self.matrix_faults(shape, 8, 1):
            return faults
        rows, columns = shape
        groups = self.num_groups(columns)
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "qweight": (("int32",), (columns, rows // 8)),
            "qzeros": (("int32",), (groups, rows // 8)),
            "scales": (FLOATS, (groups, rows)),
        }
        return part_faults(parts, expected)


def _from_awq(words: Array, columns: int) -> Array:
    lanes = unpack_words(words, 4, columns).reshape(words.shape[0], columns // 8, 8)
    out = np.empty_like(lanes)
    out[..., _AWQ_ORDER] = lanes
    return out.reshape(words.shape[0], columns)


def _to_awq(codes: Array) -> Array:
    lanes = codes.reshape(codes.shape[0], codes.shape[1] // 8, 8)[..., _AWQ_ORDER]
    return pack_words(lanes.reshape(codes.shape), 4)


_NAME = re.compile(r"(gptq|awq):q([2-8]):(?:row|g([1-9]\d{0,6}))(:order)?(:v2)?")


def _parse(name: str) -> WordLayout | None:
    found = _NAME.fullmatch(name)
    if found is None or found[2] not in "2348":
        return None
    group = int(found[3] or 0)
    made: WordLayout = Awq(group)
    if found[1] == "gptq":
        made = Gptq(int(found[2]), group, bool(found[4]), bool(found[5]))
    return made if made.name == name else None


register_parser(_parse, "gptq:q4:g128", "gptq:q4:g128:order", "awq:q4:g128")
