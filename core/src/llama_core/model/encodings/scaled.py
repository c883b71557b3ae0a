"""Eight-bit numbers under scales, as compressed-tensors and FP8 checkpoints hold them.

`f8e4m3:b128x128` and `f8e4m3:row` are 8-bit floats with a scale for a tile or a row, `i8:row` and
`i8:g128:zero` bytes with a scale for a group. The parts carry the names they have in those files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme
from llama_core.model.encodings.base import (
    Array,
    Encoding,
    FloatArray,
    Parts,
    Shape,
    part_faults,
    register_parser,
)
from llama_core.model.encodings.grouped import AffineLayout
from llama_core.model.encodings.plain import Plain, as_float32

_FLOATS = ("float16", "float32", "uint16")  # uint16 parts are bfloat16


@dataclass(frozen=True, slots=True)
class ScaledFloat(Encoding):
    """`weight` as 8-bit floats [N, K] under `weight_scale`: for tiles of rows by columns, 0 for
    all of an axis."""

    kind: str = "f8e4m3"
    tile_rows: int = 1
    tile_columns: int = 0

    @property
    def name(self) -> str:
        tile = (self.tile_rows, self.tile_columns)
        named = {(1, 0): "row", (0, 0): "tensor"}.get(tile, f"b{tile[0]}x{tile[1]}")
        return f"{self.kind}:{named}"

    def _tile(self, shape: Shape) -> tuple[int, int]:
        return self.tile_rows or max(shape[0], 1), self.tile_columns or max(shape[1], 1)

    def _grid(self, shape: Shape) -> Shape:
        rows, columns = self._tile(shape)
        return -(-shape[0] // rows), -(-shape[1] // columns)

    def encode(self, x: Array) -> dict[str, Array]:
        x = np.asarray(x, np.float32)
        (rows, columns), (tall, wide) = self._tile(x.shape), self._grid(x.shape)
        padded = np.pad(
            np.abs(x), ((0, tall * rows - x.shape[0]), (0, wide * columns - x.shape[1]))
        )
        peak = padded.reshape(tall, rows, wide, columns).max((1, 3))
        largest = 448 if self.kind == "f8e4m3" else 57344
        scale = np.where(peak == 0, 1, peak / np.float32(largest)).astype(np.float32)
        codes = Plain(self.kind).encode(x / self._wide(scale, x.shape))["data"]
        return {"weight": codes, "weight_scale": scale}

    def _wide(self, scale: Array, shape: Shape) -> FloatArray:
        rows, columns = self._tile(shape)
        tall = np.repeat(as_float32(scale), rows, axis=0)[: shape[0]]
        return np.repeat(tall, columns, axis=1)[:, : shape[1]]

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        x = Plain(self.kind).decode({"data": parts["weight"]}, shape)
        with np.errstate(invalid="ignore", over="ignore"):
            return x * self._wide(parts["weight_scale"], shape)

    def granularity(self, shape: Shape, axis: int) -> int:
        return (self.tile_rows, self.tile_columns)[axis % 2] or 1

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        size = (self.tile_rows, self.tile_columns)[axis]
        scales = slice(start // size, -(-stop // size)) if size else slice(None)
        index = (slice(None),) * axis
        return {
            "weight": parts["weight"][(*index, slice(start, stop))],
            "weight_scale": parts["weight_scale"][(*index, scales)],
        }

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if len(shape) != 2:
            return [f"'{self}' holds matrices, not shape {list(shape)}"]
        grid = self._grid(shape)
        return part_faults(parts, {"weight": (("uint8",), shape), "weight_scale": (_FLOATS, grid)})


@dataclass(frozen=True, slots=True)
class ScaledInt(AffineLayout):
    """`weight` int8 [N, K], `weight_scale` [N, G], `weight_zero_point` [N, G] unless symmetric."""

    group: int = 0
    symmetric: bool = True

    @property
    def name(self) -> str:
        group = f"g{self.group}" if self.group else "row"
        return f"i8:{group}" + ("" if self.symmetric else ":zero")

    def scheme(self) -> Scheme:
        return Scheme(8, self.group, "none" if self.symmetric else "zero", "float32")

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        codes = np.ascontiguousarray(parts["weight"]).view(np.uint8) ^ np.uint8(0x80)
        zeros = None
        if not self.symmetric:
            zeros = np.ascontiguousarray(parts["weight_zero_point"]).view(np.uint8) ^ np.uint8(0x80)
        return Affine(
            8, self.group or max(shape[1], 1), codes, as_float32(parts["weight_scale"]), zeros
        )

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        def signed(codes: Array) -> Array:
            return (np.ascontiguousarray(codes) ^ np.uint8(0x80)).view(np.int8)

        parts = {"weight": signed(view.codes), "weight_scale": np.ascontiguousarray(view.scales)}
        if view.zeros is not None:
            parts["weight_zero_point"] = signed(view.zeros)
        return parts

    def granularity(self, shape: Shape, axis: int) -> int:
        return 1 if axis % len(shape) == 0 else self.group or 1

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if len(shape) != 2:
            return [f"'{self}' holds matrices, not shape {list(shape)}"]
        grid = (shape[0], -(-shape[1] // self.group) if self.group else 1)
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "weight": (("int8",), shape),
            "weight_scale": (_FLOATS, grid),
        }
        if not self.symmetric:
            expected["weight_zero_point"] = (("int8",), grid)
        return part_faults(parts, expected)


_FLOAT = re.compile(r"(f8e4m3|f8e5m2):(?:(row)|(tensor)|b([1-9]\d{0,5})x([1-9]\d{0,5}))")
_INT = re.compile(r"i8:(?:row|g([1-9]\d{0,5}))(:zero)?")


def _parse(name: str) -> Encoding | None:
    if found := _FLOAT.fullmatch(name):
        tile = (1, 0) if found[2] else (0, 0) if found[3] else (int(found[4]), int(found[5]))
        return ScaledFloat(found[1], *tile)
    if found := _INT.fullmatch(name):
        return ScaledInt(int(found[1] or 0), not found[2])
    return None


register_parser(_parse, "f8e4m3:row", "f8e4m3:b128x128", "i8:row")
