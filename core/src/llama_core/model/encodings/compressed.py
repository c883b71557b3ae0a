"""The packed integers of compressed-tensors' checkpoints: `ct:q4:g128`, `ct:q4:g128:zero`.

Codes lie along the inputs of each row, zero points along the outputs. The parts carry the names
they have in those files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme
from llama_core.model.encodings.base import (
    Array,
    Parts,
    Shape,
    part_faults,
    register_parser,
)
from llama_core.model.encodings.plain import as_float32
from llama_core.model.encodings.words import FLOATS, WordLayout, grouping, pack_words, unpack_words


@dataclass(frozen=True, slots=True)
class Compressed(WordLayout):
    """`weight_packed` [N, K/per word], `weight_scale` [N, G], `weight_zero_point` [N/per word, G]
    unless symmetric, `weight_g_idx` [K] where ordered."""

    bits: int
    group: int = 0
    symmetric: bool = True
    ordered: bool = False

    @property
    def name(self) -> str:
        text = f"ct:q{self.bits}:" + (f"g{self.group}" if self.group else "row")
        return text + ("" if self.symmetric else ":zero") + (":order" if self.ordered else "")

    def scheme(self) -> Scheme:
        return Scheme(self.bits, self.group, "none" if self.symmetric else "zero")

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        rows, columns = shape
        group = self.group or columns
        codes = unpack_words(parts["weight_packed"], self.bits, columns)
        scales, zeros = as_float32(parts["weight_scale"]), None
        if not self.symmetric:
            words = np.ascontiguousarray(parts["weight_zero_point"].T)
            zeros = unpack_words(words, self.bits, rows).T
        if not self.ordered:
            return Affine(self.bits, group, codes, scales, zeros)
        g_idx = parts["weight_g_idx"]
        order, even = grouping(g_idx, group)
        if not even:
            wide = None if zeros is None else zeros[:, g_idx]
            return Affine(self.bits, 1, codes, scales[:, g_idx], wide)
        if order is not None:
            codes = codes[:, order]
        return Affine(self.bits, group, codes, scales, zeros, order=order)

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        codes, columns = view.codes, shape[1]
        g_idx = (np.arange(columns) // (self.group or columns)).astype(np.int32)
        if view.order is not None:
            g_idx[view.order] = g_idx.copy()
            codes = np.empty_like(codes)
            codes[:, view.order] = view.codes
        parts = {
            "weight_packed": pack_words(codes, self.bits),
            "weight_scale": np.ascontiguousarray(view.scales),
        }
        if not self.symmetric:
            zeros = pack_words(np.ascontiguousarray(self.zeros_of(view).T), self.bits)
            parts["weight_zero_point"] = np.ascontiguousarray(zeros.T)
        return parts | ({"weight_g_idx": g_idx} if self.ordered else {})

    def granularity(self, shape: Shape, axis: int) -> int:
        per_word = 32 // self.bits
        if axis % len(shape) == 0:
            return 1 if self.symmetric else per_word
        return shape[1] if self.ordered else int(np.lcm(self.group or 1, per_word))

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if faults := self.matrix_faults(shape, 1, 1):
            return faults
        rows, columns = shape
        per_word, groups = 32 // self.bits, self.num_groups(columns)
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "weight_packed": (("int32",), (rows, -(-columns // per_word))),
            "weight_scale": (FLOATS, (rows, groups)),
        }
        if not self.symmetric:
            expected["weight_zero_point"] = (("int32",), (-(-rows // per_word), groups))
        if self.ordered:
            expected["weight_g_idx"] = (("int32",), (columns,))
        faults = part_faults(parts, expected)
        if not faults and self.ordered:
            g_idx = parts["weight_g_idx"]
            if columns and not 0 <= g_idx.min() <= g_idx.max() < groups:
                faults.append(f"part 'weight_g_idx' points outside the {groups} groups")
        return faults


_NAME = re.compile(r"ct:q([2-8]):(?:row|g([1-9]\d{0,6}))(:zero)?(:order)?")


def _parse(name: str) -> Compressed | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return Compressed(int(found[1]), int(found[2] or 0), not found[3], bool(found[4]))


register_parser(_parse, "ct:q4:g128", "ct:q4:g128:zero")
