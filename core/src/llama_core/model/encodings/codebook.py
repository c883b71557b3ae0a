"""Codes that point into a small fixed table: `nf4:g64`, `fp4:g64`, `ternary:row`, `mxfp4`.

    x[n, k] = table[code[n, k]] * scale[n, k // group]

Codes lie as a bit stream per row, lowest bits first, beside the scales: float16, or for `mxfp4`
powers of two in eight bits. What kernels are given is a `Table` (`ternary` is one too: its three
values need no zero point).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import lcm

import numpy as np

from llama_core.model.encodings import bits as bitstream
from llama_core.model.encodings.base import (
    Array,
    Encoding,
    EncodingError,
    FloatArray,
    Parts,
    Shape,
    part_faults,
    register_parser,
    rows_and_columns,
)

# The 16 quantiles of a normal distribution that QLoRA defined, as bitsandbytes stores them.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # four-bit floats of the OCP microscaling format
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)  # bitsandbytes' order; twelfths

TABLES: dict[str, FloatArray] = {
    "nf4": np.array(NF4, np.float32),
    "fp4": np.array([*_FP4, *(-v for v in _FP4)], np.float32) / np.float32(12),
    "mxfp4": np.array([*_E2M1, *(-v for v in _E2M1)], np.float32),
    "ternary": np.array([-1, 0, 1], np.float32),
}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """N rows of K codes in groups of `group` columns: x[n, k] = table[code] * scale, G groups."""

    table: FloatArray  # up to 16 numbers
    group: int
    codes: Array  # uint8 [N, K], each within the table
    scales: FloatArray  # [N, G]

    def decode(self) -> FloatArray:
        """The numbers [N, K]."""
        x_NK = self.table[self.codes]
        wide = self.scales
        if wide.shape[1] > 1:
            wide = np.repeat(wide, self.group, axis=1)[:, : x_NK.shape[1]]
        with np.errstate(invalid="ignore", over="ignore"):
            x_NK *= wide
        return x_NK


@dataclass(frozen=True, slots=True)
class Codebook(Encoding):
    """Parts: `codes` and `scales`; leading axes stay as they are in the tensor."""

    table: str
    group: int = 0  # columns; 0: the whole row

    @property
    def name(self) -> str:
        if self.table == "mxfp4":
            return "mxfp4"
        return f"{self.table}:" + (f"g{self.group}" if self.group else "row")

    @property
    def bits(self) -> int:
        return 2 if self.table == "ternary" else 4

    @property
    def scale_type(self) -> str:
        return "uint8" if self.table == "mxfp4" else "float16"

    def encode(self, x: Array) -> dict[str, Array]:
        rows, columns = rows_and_columns(x.shape)
        x_NK = np.ascontiguousarray(x, np.float32).reshape(rows, columns)
        if not np.isfinite(x_NK).all():
            raise EncodingError("cannot round numbers that are NaN or infinite")
        group = self.group or max(columns, 1)
        groups = -(-columns // group)
        size = np.pad(np.abs(x_NK), ((0, 0), (0, groups * group - columns)))
        stored = self._scales(size.reshape(rows, groups, group))
        scale = self._wide(self._numbers(stored), columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.where(scale == 0, 0, x_NK / scale)
        table = TABLES[self.table]
        by_size = np.argsort(table, kind="stable")
        edges = (table[by_size][1:] + table[by_size][:-1]) / 2
        codes = by_size[np.searchsorted(edges, y)].astype(np.uint8)
        lead = x.shape[:-1]
        packed = bitstream.pack(codes, self.bits)
        return {
            "codes": packed.reshape(*lead, packed.shape[1]),
            "scales": stored.reshape(*lead, groups),
        }

    def _scales(self, size_NGg: FloatArray) -> Array:
        if self.table == "ternary":  # the mean, as the 1.58-bit models do
            return size_NGg.mean(-1).astype(np.float16)
        peak = size_NGg.max(-1)
        if self.table == "mxfp4":
            _, exponent = np.frexp(peak)  # the largest code is 6 = 1.5 · 2^2
            return np.where(peak > 0, np.clip(exponent - 1 - 2 + 127, 0, 254), 127).astype(np.uint8)
        return (peak / np.abs(TABLES[self.table]).max()).astype(np.float16)

    def _numbers(self, stored: Array) -> FloatArray:
        if self.table == "mxfp4":
            power = np.minimum(stored, 254).astype(np.int32) - 127  # 255 is a NaN
            numbers = np.ldexp(np.float32(1), power).astype(np.float32)
            return np.where(stored == 255, np.float32(np.nan), numbers)
        return stored.astype(np.float32)

    def _wide(self, scale_NG: FloatArray, columns: int) -> FloatArray:
        if scale_NG.shape[1] == 1:
            return scale_NG
        return np.repeat(scale_NG, self.group or columns, axis=1)[:, :columns]

    def view(self, parts: Parts, shape: Shape) -> Table:
        rows, columns = rows_and_columns(shape)
        packed, scales = (parts[p].reshape(rows, parts[p].shape[-1]) for p in ("codes", "scales"))
        codes = bitstream.unpack(packed, self.bits, columns)
        if self.table == "ternary":
            codes = np.minimum(codes, np.uint8(2))
        group = self.group or max(columns, 1)
        return Table(TABLES[self.table], group, codes, self._numbers(scales))

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        return self.view(parts, shape).decode().reshape(shape)

    def granularity(self, shape: Shape, axis: int) -> int:
        if axis % len(shape) != len(shape) - 1:
            return 1
        return lcm(self.group or 1, 8 // self.bits)

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        if axis < len(shape) - 1:
            index = (slice(None),) * axis + (slice(start, stop),)
            return {name: part[index] for name, part in parts.items()}
        codes = np.s_[..., start * self.bits // 8 : bitstream.packed_bytes(stop, self.bits)]
        first, last = (start // self.group, -(-stop // self.group)) if self.group else (0, 1)
        return {"codes": parts["codes"][codes], "scales": parts["scales"][..., first:last]}

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if not shape:
            return [f"'{self}' holds rows of numbers, not a single one"]
        lead, columns = shape[:-1], shape[-1]
        groups = -(-columns // self.group) if self.group else 1
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "codes": (("uint8",), (*lead, bitstream.packed_bytes(columns, self.bits))),
            "scales": ((self.scale_type,), (*lead, groups)),
        }
        return part_faults(parts, expected)


_NAME = re.compile(r"(nf4|fp4|ternary):(?:row|g([1-9]\d{0,5}))")


def _parse(name: str) -> Codebook | None:
    if name == "mxfp4":
        return Codebook("mxfp4", 32)
    found = _NAME.fullmatch(name)
    return Codebook(found[1], int(found[2] or 0)) if found else None


register_parser(_parse, "nf4:g64", "fp4:g64", "mxfp4", "ternary:row", "ternary:g128")
