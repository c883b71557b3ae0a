"""Arrays on their way into a checkpoint and back: NumPy's or torch's, whole or a piece of a larger.

A checkpoint holds bits: bfloat16 and the 8-bit floats, which NumPy lacks, travel as integers of
their width. What was given as a tensor comes back as one; torch is touched for those alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_core.errors import LlamaError
from llama_core.model.encodings import Plain
from llama_core.model.weights import tensor
from llama_plugin_train.runs.faults import CheckpointError

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

# torch's types that NumPy lacks: encoding here, and torch's integer of the same width
_BORROWED = {
    "torch.bfloat16": ("bf16", "int16"),
    "torch.float8_e4m3fn": ("f8e4m3", "uint8"),
    "torch.float8_e5m2": ("f8e5m2", "uint8"),
}
_TORCH = {kind: (name.removeprefix("torch."), as_) for name, (kind, as_) in _BORROWED.items()}


@dataclass(frozen=True, slots=True)
class Piece:
    """What one rank holds of an array: where it begins, and the shape of the whole."""

    array: Any
    offset: Shape
    shape: Shape


@dataclass(frozen=True, slots=True)
class Region:
    """What one rank wants of an array."""

    offset: Shape
    extent: Shape


@dataclass(frozen=True, slots=True)
class Held:
    """A piece as bits in the host's memory."""

    data: Array
    kind: str  # the plain encoding
    from_torch: bool
    offset: Shape
    shape: Shape

    def facts(self) -> dict[str, Any]:
        """All but the bits, for JSON."""
        return {
            "kind": self.kind,
            "from_torch": self.from_torch,
            "offset": list(self.offset),
            "extent": list(self.data.shape),
            "shape": list(self.shape),
        }


def hold(arrays: Mapping[str, Any], *, copy: bool) -> dict[str, Held]:
    """Bring all to the host; with `copy`, what is done to them later is not seen."""
    return {name: _held(name, value, copy) for name, value in arrays.items()}


def _held(name: str, value: Any, copy: bool) -> Held:
    if not name or name == "__metadata__":
        raise CheckpointError(f"no array of a checkpoint can be named {name!r}")
    piece = value if isinstance(value, Piece) else None
    data, kind, from_torch = _bits(name, value if piece is None else piece.array, copy)
    offset = (0,) * data.ndim if piece is None else tuple(piece.offset)
    shape = data.shape if piece is None else tuple(piece.shape)
    if not len(shape) == len(offset) == data.ndim or any(
        first < 0 or first + length > whole
        for first, length, whole in zip(offset, data.shape, shape, strict=True)
    ):
        raise CheckpointError(
            f"the piece of '{name}' at {offset} of shape {data.shape} is not inside {shape}"
        )
    return Held(data, kind, from_torch, offset, shape)


def _bits(name: str, value: Any, copy: bool) -> tuple[Array, str, bool]:
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if hasattr(value, "to_local"):
            raise CheckpointError(
                f"'{name}' is spread over ranks", remedy="Give each rank's own part as a Piece."
            )
        host = value.detach().to("cpu")
        kind, as_ = _BORROWED.get(str(host.dtype), (None, None))
        plain = host.contiguous()
        plain = plain.view(getattr(torch, as_)) if as_ else plain
        try:
            data = plain.numpy()
        except TypeError as error:
            raise CheckpointError(f"'{name}' holds {value.dtype}, which no file keeps") from error
        shared = plain.data_ptr() == value.data_ptr()
        data = data.copy() if copy and shared else data
        if kind is not None:
            return data.view(Plain(kind).dtype), kind, True
        return data, _kind(name, data), True
    data = np.array(value, copy=True) if copy else np.asarray(value)
    return data, _kind(name, data), False


def _kind(name: str, data: Array) -> str:
    try:
        return tensor(data).encoding.name
    except LlamaError as error:
        raise CheckpointError(
            f"'{name}' holds {data.dtype}, which no checkpoint keeps",
            remedy="Keep numbers and booleans as arrays, and all else as facts.",
        ) from error


def give_back(data: Array, kind: str, from_torch: bool) -> Any:
    """The array as it was given: a tensor where it was one."""
    if not from_torch:
        return data
    import torch

    name, as_ = _TORCH.get(kind, (None, None))
    if name is None or as_ is None:
        return torch.from_numpy(data)
    return torch.from_numpy(data.view(as_)).view(getattr(torch, name))


def copy_overlap(source: Array, source_at: Shape, target: Array, target_at: Shape) -> None:
    """Copy what two boxes of one array have in common, each known by where it begins."""
    first = [max(a, b) for a, b in zip(source_at, target_at, strict=True)]
    last = [
        min(a + n, b + m)
        for a, n, b, m in zip(source_at, source.shape, target_at, target.shape, strict=True)
    ]
    if any(a >= b for a, b in zip(first, last, strict=True)):
        return
    box = list(zip(first, last, strict=True))
    into = tuple(slice(a - at, b - at) for (a, b), at in zip(box, target_at, strict=True))
    out_of = tuple(slice(a - at, b - at) for (a, b), at in zip(box, source_at, strict=True))
    target[into] = source[out_of]


def missing_cover(shape: Shape, boxes: list[tuple[Shape, Shape]]) -> str | None:
    """Why boxes (offset, extent) do not cover an array once each, or None where they do."""
    for number, (at, extent) in enumerate(boxes):
        for other_at, other in boxes[:number]:
            if all(
                a < b + m and b < a + n
                for a, n, b, m in zip(at, extent, other_at, other, strict=True)
            ):
                return f"the pieces at {at} and {other_at} overlap"
    held = sum(math.prod(extent) for _, extent in boxes)
    return None if held == math.prod(shape) else f"{held} of {math.prod(shape)} numbers were given"
