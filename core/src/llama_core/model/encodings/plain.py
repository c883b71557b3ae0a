"""Numbers one by one: floats of 8 to 64 bits and integers, a part named `data` and no more.

`bf16` and the 8-bit floats have no NumPy type; they lie as unsigned integers of their width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from llama_core.model.encodings.base import (
    Array,
    Encoding,
    FloatArray,
    Parts,
    Shape,
    part_faults,
    register_parser,
)

_STORED = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "uint16",
    "f8e4m3": "uint8",
    "f8e5m2": "uint8",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "bool": "bool",
}


@dataclass(frozen=True, slots=True)
class Plain(Encoding):
    """Every number by itself."""

    kind: str

    @property
    def name(self) -> str:
        return self.kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type the bytes are held in."""
        return np.dtype(_STORED[self.kind])

    def encode(self, x: Array) -> dict[str, Array]:
        if self.kind == "bf16":
            return {"data": to_bf16(x)}
        if self.kind.startswith("f8"):
            return {"data": _to_float8(np.asarray(x, np.float32), self.kind)}
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            x = np.clip(np.rint(x), limits.min, limits.max)
        with np.errstate(over="ignore"):
            return {"data": np.ascontiguousarray(np.asarray(x).astype(self.dtype))}

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        data = parts["data"]
        if self.kind == "bf16":
            wide = data.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32).reshape(shape)
        if self.kind.startswith("f8"):
            return float8_values(self.kind)[data].reshape(shape)
        with np.errstate(over="ignore"):  # f64 beyond float32 becomes infinite, as a cast does
            return data.astype(np.float32).reshape(shape)

    def granularity(self, shape: Shape, axis: int) -> int:
        return 1

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        index = (slice(None),) * (axis % len(shape)) + (slice(start, stop),)
        return {"data": parts["data"].reshape(shape)[index]}

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        return part_faults(parts, {"data": ((self.dtype.name,), shape)})


def to_bf16(x: Array) -> Array:
    """Round to nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, (bits >> 16).astype(np.uint16) | np.uint16(0x40), rounded)


def as_float32(part: Array) -> FloatArray:
    """Scales as numbers: files hold them in float16, float32 or (as uint16) bfloat16."""
    if part.dtype == np.uint16:
        return (part.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return part.astype(np.float32)


@cache
def float8_values(kind: str) -> FloatArray:
    """The 256 numbers of an 8-bit float (`f8e4m3` is the finite variant that checkpoints use)."""
    codes = np.arange(256)
    mantissa_bits, bias = (3, 7) if kind == "f8e4m3" else (2, 15)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent = (codes & 0x7F) >> mantissa_bits
    mantissa = codes & ((1 << mantissa_bits) - 1)
    fraction = mantissa / (1 << mantissa_bits)
    value = np.where(
        exponent == 0,
        fraction * 2.0 ** (1 - bias),
        (1 + fraction) * 2.0 ** (exponent - float(bias)),
    )
    if kind == "f8e4m3":
        value[(codes & 0x7F) == 0x7F] = np.nan
    else:
        value[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    return np.asarray(sign * value, np.float32)


def _to_float8(x: FloatArray, kind: str) -> Array:
    """Nearest, ties to even, saturating; a NaN stays one."""
    values = float8_values(kind)[:128]
    finite = values[np.isfinite(values)].astype(np.float64)
    size = np.minimum(np.abs(x).astype(np.float64), finite[-1])
    above = np.searchsorted(finite, np.nan_to_num(size), side="left").clip(1, len(finite) - 1)
    low, high = finite[above - 1], finite[above]
    up = (size - low > high - size) | ((size - low == high - size) & (above % 2 == 0))
    codes = np.where(up, above, above - 1).astype(np.uint8)
    codes = np.where(np.isnan(x), np.uint8(0x7F), codes)
    return np.where(np.signbit(x), codes | np.uint8(0x80), codes)


F32, F16, BF16 = Plain("f32"), Plain("f16"), Plain("bf16")

register_parser(lambda name: Plain(name) if name in _STORED else None, *_STORED)
