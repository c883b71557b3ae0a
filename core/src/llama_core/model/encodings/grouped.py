"""Our own affine layout: codes as a bit stream per row, scales beside them, named `q4:g32:min`.

    q<bits>:<row | g<columns>>[/<columns of a super group>][:min | :zero][:f32][:order]

`q8:row` one scale a row; `q4:g32` one for 32 columns; `q4:g32/256:min` small scales and minimums
in 8 bits under super scales for 256 columns; `:f32` scales in float32 instead of float16; `:order`
columns sorted before they were grouped. It knows the bytes, the arithmetic is in `affine`.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np

from llama_core.model.encodings import bits as bitstream
from llama_core.model.encodings.affine import Affine, Offset, Scheme, rounded
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

_CHUNK = 1 << 21  # numbers decoded at once: temporaries stay within the second-level cache's reach


class AffineLayout(Encoding):
    """What all affine layouts share; a subclass gives `unpack`, `pack` and `scheme`."""

    __slots__ = ()

    @abstractmethod
    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        """The affine view of the parts."""

    @abstractmethod
    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        """The parts of a view that has this layout's bits, group and levels."""

    @abstractmethod
    def scheme(self) -> Scheme:
        """What the reference rounding has to produce."""

    def view(self, parts: Parts, shape: Shape) -> Affine:
        return self.unpack(parts, shape)

    def encode(self, x: Array) -> dict[str, Array]:
        x_NK = np.ascontiguousarray(x, np.float32).reshape(rows_and_columns(x.shape))
        return self.pack(rounded(x_NK, self.scheme()), x.shape)

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        return self.unpack(parts, shape).decode().reshape(shape)

    def granularity(self, shape: Shape, axis: int) -> int:
        if axis % len(shape) != len(shape) - 1:
            return 1
        scheme = self.scheme()
        return scheme.group * (scheme.per_super or 1) or shape[-1]

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        axis %= len(shape)
        view = self.unpack(parts, shape)
        new_shape = (*shape[:axis], stop - start, *shape[axis + 1 :])
        if axis == len(shape) - 1:
            return self.pack(view.columns(start, stop), new_shape)
        assert axis == 0, "layouts of foreign files hold matrices"
        return self.pack(view.rows(start, stop), new_shape)


def in_row_chunks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, each of about `_CHUNK` numbers."""
    step = max(1, _CHUNK // max(columns, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def decode_rows(rows: int, columns: int, view: Callable[[int, int], Affine]) -> FloatArray:
    """Decode some rows at a time, so that temporaries stay small beside the result."""
    out = np.empty((rows, columns), np.float32)
    for start, stop in in_row_chunks(rows, columns):
        out[start:stop] = view(start, stop).decode()
    return out


@dataclass(frozen=True, slots=True)
class Grouped(AffineLayout):
    """Ours. Parts: `codes`, `scales`, and where they apply `minimums`, `zeros`, `super_scales`,
    `super_minimums`, `order`; leading axes stay as they are in the tensor."""

    bits: int
    group: int = 0  # columns; 0: the whole row
    offset: Offset = "none"
    super_group: int = 0  # columns under one super scale; 0: one level
    scale_type: str = "float16"
    ordered: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise EncodingError(f"codes have 1 to 8 bits, not {self.bits}")
        if self.super_group and (not self.group or self.super_group % self.group):
            raise EncodingError(f"super groups of {self.super_group} do not hold whole groups")

    @property
    def name(self) -> str:
        text = f"q{self.bits}:" + (f"g{self.group}" if self.group else "row")
        text += f"/{self.super_group}" if self.super_group else ""
        text += "" if self.offset == "none" else f":{self.offset}"
        text += ":f32" if self.scale_type == "float32" else ""
        return text + (":order" if self.ordered else "")

    def scheme(self) -> Scheme:
        per_super = self.super_group // self.group if self.super_group else 0
        sub_range = (0, 255) if self.offset != "none" else (-127, 127)
        return Scheme(self.bits, self.group, self.offset, self.scale_type, per_super, sub_range)

    def encode(self, x: Array) -> dict[str, Array]:
        x_NK = np.ascontiguousarray(x, np.float32).reshape(rows_and_columns(x.shape))
        order = None
        if self.ordered:  # without calibration data: columns of like size share a group
            energy = np.square(x_NK, dtype=np.float64).sum(0)
            order = np.argsort(-energy, kind="stable").astype(np.int32)
        return self.pack(rounded(x_NK, self.scheme(), order), x.shape)

    def pack(self, view: Affine, shape: Shape) -> dict[str, Array]:
        lead = shape[:-1]
        parts = {
            "codes": bitstream.pack(view.codes, self.bits),
            "scales": view.scales,
            "minimums": view.minimums,
            "zeros": view.zeros,
            "super_scales": view.super_scales,
            "super_minimums": view.super_minimums,
        }
        out = {name: p.reshape(*lead, p.shape[1]) for name, p in parts.items() if p is not None}
        if view.order is not None:
            out["order"] = view.order
        return out

    def unpack(self, parts: Parts, shape: Shape) -> Affine:
        rows, columns = rows_and_columns(shape)
        flat = {name: p.reshape(rows, p.shape[-1]) for name, p in parts.items() if name != "order"}
        return self._view(flat, parts.get("order"), columns)

    def _view(self, flat: Parts, order: Array | None, columns: int) -> Affine:
        return Affine(
            self.bits,
            self.group or max(columns, 1),
            bitstream.unpack(flat["codes"], self.bits, columns),
            flat["scales"],
            flat.get("zeros"),
            flat.get("minimums"),
            self.super_group // self.group if self.super_group else 1,
            flat.get("super_scales"),
            flat.get("super_minimums"),
            order,
        )

    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        rows, columns = rows_and_columns(shape)
        flat = {name: p.reshape(rows, p.shape[-1]) for name, p in parts.items() if name != "order"}
        order = parts.get("order")

        def view(start: int, stop: int) -> Affine:
            return self._view({n: p[start:stop] for n, p in flat.items()}, order, columns)

        return decode_rows(rows, columns, view).reshape(shape)

    def granularity(self, shape: Shape, axis: int) -> int:
        if axis % len(shape) != len(shape) - 1:
            return 1
        if self.ordered:
            return max(shape[-1], 1)
        whole_bytes = 8 // gcd(self.bits, 8)
        return lcm(self.super_group or self.group or 1, whole_bytes)

    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        axis %= len(shape)
        if axis < len(shape) - 1:
            index = (slice(None),) * axis + (slice(start, stop),)
            return {n: p if n == "order" else p[index] for n, p in parts.items()}
        new_shape = (*shape[:-1], stop - start)
        steps = {
            "codes": None,
            "super_scales": self.super_group,
            "super_minimums": self.super_group,
        }
        out = {}
        for name, part in parts.items():
            step = steps.get(name, self.group)
            if step is None:
                first = start * self.bits // 8
                last = bitstream.packed_bytes(stop, self.bits)
            elif step == 0:
                first, last = 0, 1
            else:
                first, last = start // step, -(-stop // step)
            out[name] = part[..., first:last]
        assert not self.faults(out, new_shape)
        return out

    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        if not shape:
            return [f"'{self}' holds rows of numbers, not a single one"]
        lead, columns = shape[:-1], shape[-1]
        groups = -(-columns // self.group) if self.group else min(columns, 1)
        small = (*lead, groups)
        large = (*lead, -(-columns // self.super_group) if self.super_group else 1)
        sub = "uint8" if self.offset != "none" else "int8"
        scale = self.scale_type if not self.super_group else sub
        packed = (*lead, bitstream.packed_bytes(columns, self.bits))
        expected: dict[str, tuple[tuple[str, ...], Shape]] = {
            "codes": (("uint8",), packed),
            "scales": ((scale,), small),
        }
        if self.offset == "min":
            expected["minimums"] = ((scale,), small)
        if self.offset == "zero":
            expected["zeros"] = (("uint8",), small)
        if self.super_group:
            expected["super_scales"] = ((self.scale_type,), large)
            if self.offset == "min":
                expected["super_minimums"] = ((self.scale_type,), large)
        if self.ordered:
            expected["order"] = (("int32",), (columns,))
        faults = part_faults(parts, expected)
        if not faults and self.ordered and not is_permutation(parts["order"]):
            faults.append("part 'order' is not a permutation of the columns")
        return faults


def is_permutation(order: Array) -> bool:
    """Whether every index from 0 on is there once."""
    return bool(np.array_equal(np.sort(order), np.arange(order.size)))


_NAME = re.compile(r"q([1-8]):(?:(row)|g([1-9]\d{0,5}))(?:/([1-9]\d{0,6}))?((?::[a-z0-9]+)*)")


def _parse(name: str) -> Grouped | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    bits, _row, group, super_group, rest = found.groups()
    flags = [flag for flag in rest.split(":") if flag]
    offset: Offset = "min" if "min" in flags else "zero" if "zero" in flags else "none"
    made = Grouped(
        int(bits),
        int(group or 0),
        offset,
        int(super_group or 0),
        "float32" if "f32" in flags else "float16",
        "order" in flags,
    )
    return made if made.name == name else None


register_parser(_parse, "q8:row", "q4:g32", "q4:g32:min", "q4:g128:zero", "q4:g32/256:min")
