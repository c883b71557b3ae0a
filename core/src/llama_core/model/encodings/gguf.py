"""GGUF's quantized types as encodings: `gguf:q4_0` … `gguf:q6_k`, one part, `blocks`.

It knows that a row is a run of whole blocks; what is in a block is in `gguf_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme, rounded
from llama_core.model.encodings.base import (
    Array,
    EncodingError,
    FloatArray,
    Parts,
    Shape,
    part_faults,
    register_parser,
    rows_and_columns,
)
from llama_core.model.encodings.gguf_blocks import BLOCKS, Block
from llama_core.model.encodings.grouped import AffineLayout, in_row_chunks


@dataclass(frozen=True, slots=True)
class Gguf(AffineLayout):
    """Rows of blocks. `blocks` is uint8 with the tensor's leading axes and the bytes of a row."""

    kind: str

    @property
    def name(self) -> str:
        return f"gguf:{self.kind}"

    @property
    def block(self) -> Block:
        return BLOCKS[self.kind]

    def scheme(self) -> Scheme:
        return self.block.scheme

    def row_bytes(self, columns: int) -> int:
        """The bytes of one row, which must hold whole blocks."""
        if columns % self.block.columns:
            raise EncodingError(
                f"rows of {columns} do not fill blocks of {self.block.columns} for '{self}'",
                remedy="Keep this tensor in f16, or use gguf:q8_0 where 32 divides its rows.",
            )
        return columns // self.block.columns * self.block.num_bytes

    def encode(self, x: Array) -> dict[str, Array]:
        rows, columns = rows_and_columns(x.shape)
        row_bytes = self.row_bytes(columns)
        x_NK = np.ascontiguousarray(x, np.float32).reshape(rows, columns)
        out = np.empty((rows, row_bytes), np.uint8)
        for start, stop in in_row_chunks(rows, columns):
            blocks = x_NK[start:stop].reshape(-1, self.block.columns)
            packed = self.block.pack(rounded(blocks, self.block.scheme))
            out[start:stop] = packed.reshape(stop - start, row_bytes)
        return {"blocks": out.reshape(*x.shape[:-1], row_bytes)}

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        rows, columns = rows_and_columns(shape)
        bytes_NB = parts["blocks"].reshape(rows, self.row_bytes(columns))
        out = np.empty((rows, columns), np.float32)
        for start, stop in in_row_chunks(rows, columns):
            blocks = bytes_NB[start:stop].reshape(-1, self.block.num_bytes)
            out[start:stop] = self.block.unpack(blocks).decode().reshape(stop - start, columns)
        return out.reshape(shape)

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        rows, columns = rows_and_columns(shape)
        view = self.block.unpack(parts["blocks"].reshape(-1, self.block.num_bytes))
        per_row = columns // self.block.columns

        def wide(a: Array | None) -> Array | None:
            return None if a is None else a.reshape(rows, a.shape[1] * per_row)

        return replace(
            view,
            codes=view.codes.reshape(rows, columns),
            scales=view.scales.reshape(rows, view.scales.shape[1] * per_row),
            minimums=wide(view.minimums),
            super_scales=wide(view.super_scales),
            super_minimums=wide(view.super_minimums),
        )

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        count = view.codes.size // self.block.columns

        def narrow(a: Array | None) -> Array | None:
            return None if a is None else a.reshape(count, a.size // max(count, 1))

        blocks = replace(
            view,
            codes=view.codes.reshape(count, self.block.columns),
            scales=view.scales.reshape(count, view.scales.size // max(count, 1)),
            minimums=narrow(view.minimums),
            super_scales=narrow(view.super_scales),
            super_minimums=narrow(view.super_minimums),
        )
        return {"blocks": self.block.pack(blocks).reshape(*shape[:-1], self.row_bytes(shape[-1]))}

    def granularity(self, shape: Shape, axis: int) -> int:
        return self.block.columns if axis % len(shape) == len(shape) - 1 else 1

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        if axis == len(shape) - 1:
            start, stop = self.row_bytes(start), self.row_bytes(stop)
        index = (slice(None),) * axis + (slice(start, stop),)
        return {"blocks": parts["blocks"][index]}

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if not shape or shape[-1] % self.block.columns:
            return [f"shape {list(shape)} has no rows of whole blocks of {self.block.columns}"]
        expected = (*shape[:-1], self.row_bytes(shape[-1]))
        return part_faults(parts, {"blocks": (("uint8",), expected)})


def _parse(name: str) -> Gguf | None:
    family, _, kind = name.partition(":")
    return Gguf(kind) if family == "gguf" and kind in BLOCKS else None


register_parser(_parse, *(f"gguf:{kind}" for kind in BLOCKS))
