"""Checkpoints of bitsandbytes: `bnb:int8`, `bnb:nf4:b64`, `bnb:fp4:b64:nested256`.

Four-bit blocks run on over the ends of rows, and their largest values may themselves be held in
eight bits (nested). The parts carry the names they have in those files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme
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
from llama_core.model.encodings.codebook import TABLES, Table
from llama_core.model.encodings.grouped import AffineLayout
from llama_core.model.encodings.plain import as_float32

_FLOATS = ("float16", "float32", "uint16")  # uint16 parts are bfloat16


@dataclass(frozen=True, slots=True)
class BnbInt8(AffineLayout):
    """`weight` int8 [N, K] and `SCB` [N], the largest absolute value of each row."""

    @property
    def name(self) -> str:
        return "bnb:int8"

    def scheme(self) -> Scheme:
        return Scheme(8, 0, "none", "float32")

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        codes = np.ascontiguousarray(parts["weight"]).view(np.uint8) ^ np.uint8(0x80)
        scales = as_float32(parts["SCB"])[:, None] / np.float32(127)
        return Affine(8, max(shape[1], 1), codes, scales)

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        codes = (np.ascontiguousarray(view.codes) ^ np.uint8(0x80)).view(np.int8)
        return {"weight": codes, "SCB": view.scales[:, 0].astype(np.float32) * np.float32(127)}

    def granularity(self, shape: Shape, axis: int) -> int:
        return 1

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        if axis == 1:
            return {"weight": parts["weight"][:, start:stop], "SCB": parts["SCB"]}
        return {"weight": parts["weight"][start:stop], "SCB": parts["SCB"][start:stop]}

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if len(shape) != 2:
            return [f"'{self}' holds matrices, not shape {list(shape)}"]
        return part_faults(parts, {"weight": (("int8",), shape), "SCB": (_FLOATS, (shape[0],))})


@dataclass(frozen=True, slots=True)
class Bnb4(Encoding):
    """`weight` (first number in the high four bits), `absmax` per block, `quant_map`; where nested
    also `nested_absmax`, `nested_quant_map` and `offset`."""

    table: str  # nf4 or fp4
    block: int = 64
    nested: int = 0

    @property
    def name(self) -> str:
        nested = f":nested{self.nested}" if self.nested else ""
        return f"bnb:{self.table}:b{self.block}{nested}"

    def encode(self, x: Array) -> dict[str, Array]:
        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        if not np.isfinite(flat).all():
            raise EncodingError("cannot round numbers that are NaN or infinite")
        blocks = np.pad(flat, (0, -flat.size % self.block)).reshape(-1, self.block)
        table = TABLES[self.table]
        absmax = np.abs(blocks).max(-1)
        parts: dict[str, Array] = {"absmax": absmax, "quant_map": table}
        if self.nested:
            parts |= self._nest(absmax)
            absmax = self._absmax(parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.where(absmax[:, None] == 0, 0, blocks / absmax[:, None])
        codes = np.pad(_nearest(y.reshape(-1)[: flat.size], table), (0, flat.size % 2))
        parts["weight"] = (codes[0::2] << np.uint8(4) | codes[1::2])[:, None]
        return parts

    def _nest(self, absmax: FloatArray) -> dict[str, Array]:
        offset = np.array([absmax.mean() if absmax.size else 0], np.float32)
        rest = absmax - offset
        groups = np.pad(rest, (0, -rest.size % self.nested)).reshape(-1, self.nested)
        outer = np.abs(groups).max(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.where(outer[:, None] == 0, 0, groups / outer[:, None])
        codes = _nearest(y.reshape(-1)[: rest.size], dynamic_map())
        return {
            "absmax": codes,
            "nested_absmax": outer,
            "nested_quant_map": dynamic_map(),
            "offset": offset,
        }

    def _absmax(self, parts: Parts) -> FloatArray:
        absmax = parts["absmax"]
        if not self.nested:
            return as_float32(absmax)
        outer = np.repeat(as_float32(parts["nested_absmax"]), self.nested)[: absmax.size]
        return np.asarray(
            as_float32(parts["nested_quant_map"])[absmax] * outer + parts["offset"], np.float32
        )

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        count = int(np.prod(shape, dtype=np.int64))
        packed = np.ascontiguousarray(parts["weight"]).reshape(-1).view(np.uint8)
        codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1)[:count]
        with np.errstate(invalid="ignore", over="ignore"):
            x = as_float32(parts["quant_map"])[codes]
            x *= np.repeat(self._absmax(parts), self.block)[:count]
        return x.reshape(shape)

    def view(self, parts: Parts, shape: Shape) -> Table | None:
        if len(shape) != 2 or shape[1] % self.block or not shape[1]:
            return None  # blocks that run on over the ends of rows
        packed = np.ascontiguousarray(parts["weight"]).reshape(-1).view(np.uint8)
        codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(shape)
        scales = self._absmax(parts).reshape(shape[0], -1)
        return Table(as_float32(parts["quant_map"]), self.block, codes, scales)

    def granularity(self, shape: Shape, axis: int) -> int:
        if axis % len(shape):
            return shape[axis]
        columns = rows_and_columns(shape)[1] * int(np.prod(shape[1:-1], dtype=np.int64))
        unit = self.block * (self.nested or 1)
        return unit // int(np.gcd(unit, columns)) if columns else 1

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        assert axis == 0
        columns = int(np.prod(shape[1:], dtype=np.int64))
        first, last = start * columns, stop * columns
        out = dict(parts)
        out["weight"] = parts["weight"].reshape(-1)[first // 2 : -(-last // 2)]
        out["absmax"] = parts["absmax"][first // self.block : -(-last // self.block)]
        if self.nested:
            unit = self.block * self.nested
            out["nested_absmax"] = parts["nested_absmax"][first // unit : -(-last // unit)]
        return out

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        count = int(np.prod([float(n) for n in shape]))
        if "weight" not in parts:
            return ["part 'weight' is missing"]
        weight = parts["weight"]
        faults = []
        if weight.dtype.itemsize != 1 or weight.size != -(-count // 2):
            faults.append(f"part 'weight' has {weight.nbytes} bytes, not {-(-count // 2)}")
        blocks = -(-count // self.block)
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "absmax": (("uint8",) if self.nested else _FLOATS, (blocks,)),
            "quant_map": (_FLOATS, (16,)),
        }
        if self.nested:
            expected["nested_absmax"] = (_FLOATS, (-(-blocks // self.nested),))
            expected["nested_quant_map"] = (_FLOATS, (256,))
            expected["offset"] = (("float32",), (1,))
        return faults + part_faults(parts, expected)


def _nearest(y: FloatArray, table: FloatArray) -> Array:
    by_size = np.argsort(table, kind="stable")
    edges = (table[by_size][1:] + table[by_size][:-1]) / 2
    return by_size[np.searchsorted(edges, y)].astype(np.uint8)


@cache
def dynamic_map() -> FloatArray:
    """bitsandbytes' signed eight-bit numbers with a moving exponent (Dettmers 2016)."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2**i + 1, dtype=np.float32)
        means = 10.0 ** (i - 6) * ((edges[:-1] + edges[1:]) / 2)
        values += [*means, *(-means)]
    return np.sort(np.array(values, np.float32))


_BNB4 = re.compile(r"bnb:(nf4|fp4):b([1-9]\d{0,5})(?::nested([1-9]\d{0,5}))?")


def _parse(name: str) -> Encoding | None:
    if name == "bnb:int8":
        return BnbInt8()
    found = _BNB4.fullmatch(name)
    return Bnb4(found[1], int(found[2]), int(found[3] or 0)) if found else None


register_parser(_parse, "bnb:int8", "bnb:nf4:b64", "bnb:nf4:b64:nested256")
