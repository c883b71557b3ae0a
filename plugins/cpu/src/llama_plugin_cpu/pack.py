"""Tensors as the native library takes them: dense numbers, or codes with scales.

Knows encodings and the library's `llama_weight_source`; knows nothing of graphs. What has no native
form is decoded to 32-bit floats, and the caller says so.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.model.encodings import Affine, Table
from llama_core.model.weights import Tensor

DENSE = {"f32": ("LLAMA_W_F32", np.float32), "f16": ("LLAMA_W_F16", np.float16),
         "bf16": ("LLAMA_W_BF16", np.uint16)}  # fmt: skip


PART = 1 << 22  # numbers unpacked at a time: some copies of them are small beside a model


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A matrix ready to be handed over. `widened` names an encoding that had to be decoded."""

    fields: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    order: NDArray[np.int32] | None = None
    widened: str | None = None
    kept: list[Any] = field(default_factory=list)  # what the struct's pointers show


def parts(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The rows of a matrix from top to bottom, as many at a time as panels and encoding allow."""
    rows, cols = tensor.shape
    step = math.lcm(16, tensor.granularity(0))
    step *= max(1, PART // (step * cols))
    for row in range(0, rows, step):
        yield row, tensor.cut(0, row, min(rows, row + step))


def release(tensor: Tensor) -> None:
    """Give the memory of a mapped file back to the system, which reads it again where need be."""
    for part in tensor.parts.values():
        base: Any = part
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap) and memoryview(base).readonly:
            base.madvise(mmap.MADV_DONTNEED)


def source(tensor: Tensor, *, ordered: bool = True) -> Source:
    """The native form of a matrix; with `ordered` false, columns stand in their own order."""
    rows, cols = tensor.shape
    size = {"rows": rows, "cols": cols}
    name = tensor.encoding.name
    if name in DENSE:
        kind, dtype = DENSE[name]
        data = np.ascontiguousarray(tensor.parts["data"].reshape(rows, cols), dtype)
        return Source({"kind": kind, **size}, {"data": data})
    view = tensor.view()
    if isinstance(view, Affine) and fits(view, cols) and (view.order is None or ordered):
        return _affine(view, size)
    if isinstance(view, Table) and view.group % 8 == 0:
        return _table(view, size)
    data = np.ascontiguousarray(tensor.decode(), np.float32)
    widened = None if name in ("f64", "f8e4m3", "f8e5m2") else name
    return Source({"kind": "LLAMA_W_F32", **size}, {"data": data}, widened=widened)


def fits(view: Affine, cols: int) -> bool:
    """Whether its groups are such as the kernels read."""
    return view.group % 8 == 0 or view.group >= cols


def _affine(view: Affine, size: dict[str, int]) -> Source:
    """scale * (code - zero) + minimum with one zero for all; other zeros go into the minimum."""
    scales = np.ascontiguousarray(view.effective_scales(), np.float32)
    minimums = view.effective_minimums()
    zero = 0 if minimums is not None else int(view.middle)
    if view.zeros is not None:
        shift = -scales * view.zeros.astype(np.float32)
        minimums, zero = (shift if minimums is None else minimums + shift), 0
    elif view.middle != zero and minimums is None:  # one bit: half a code
        if size["cols"] % 32 == 0 and (view.group % 32 == 0 or view.group >= size["cols"]):
            zero = int(2 * view.middle)  # which the library counts in halves
        else:
            minimums, zero = scales * np.float32(-view.middle), 0
    arrays: dict[str, NDArray[Any]] = {
        "data": np.ascontiguousarray(view.codes, np.uint8),
        "scales": scales,
    }
    if minimums is not None:
        arrays["minimums"] = np.ascontiguousarray(minimums, np.float32)
    order = None if view.order is None else np.ascontiguousarray(view.order, np.int32)
    fields = {"kind": "LLAMA_W_AFFINE", **size, "bits": view.bits, "group": view.group,
              "zero": zero}  # fmt: skip
    return Source(fields, arrays, order)


def _table(view: Table, size: dict[str, int]) -> Source:
    """scale * table[code], the table filled up to 16 numbers."""
    table = np.zeros(16, np.float32)
    table[: len(view.table)] = view.table
    arrays: dict[str, NDArray[Any]] = {
        "data": np.ascontiguousarray(view.codes, np.uint8),
        "scales": np.ascontiguousarray(view.scales, np.float32),
        "table": table,
    }
    fields = {"kind": "LLAMA_W_TABLE", **size, "bits": 4, "group": view.group, "zero": 0}
    return Source(fields, arrays)


def dense(array: NDArray[Any]) -> Source:
    """A matrix of floats."""
    data = np.ascontiguousarray(array, np.float32)
    rows, cols = data.shape
    return Source({"kind": "LLAMA_W_F32", "rows": rows, "cols": cols}, {"data": data})


def struct(ffi: Any, lib: Any, one: Source) -> Any:
    """The C struct; `one` must be kept until the call is over."""
    out = ffi.new("llama_weight_source *")
    for name, value in one.fields.items():
        setattr(out, name, getattr(lib, value) if isinstance(value, str) else value)
    for name, array in one.arrays.items():
        kind = "float[]" if name != "data" else "char[]"
        buffer = ffi.from_buffer(kind, array.view(np.uint8) if name == "data" else array)
        one.kept.append(buffer)
        setattr(out, name, buffer)
    return out
