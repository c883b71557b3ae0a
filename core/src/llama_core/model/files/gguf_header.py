"""The header of a GGUF file, walked with every length checked against the bytes that are left.

The `gguf` package's reader believes what a file says; this one does not: counts, lengths, types,
offsets and overlaps are checked before anything is allocated or mapped. It knows versions 2 and 3;
what the metadata means, and what tensors are called elsewhere, is known to its neighbours.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.model.encodings import Encoding, Gguf, Plain
from llama_core.model.encodings.base import Array, Shape, rows_and_columns
from llama_core.model.files.faults import ModelFileError, quoted
from llama_core.model.files.mapped import MappedFile
from llama_core.model.files.safetensors import can_be
from llama_core.model.origin import Stamp
from llama_core.model.weights import Tensor

TYPES: dict[int, Encoding] = {
    **{i: Plain(kind) for i, kind in ((0, "f32"), (1, "f16"), (30, "bf16"), (28, "f64"))},
    **{i: Plain(kind) for i, kind in ((24, "i8"), (25, "i16"), (26, "i32"), (27, "i64"))},
    **{i: Gguf(kind) for i, kind in ((2, "q4_0"), (3, "q4_1"), (6, "q5_0"), (7, "q5_1"))},
    **{i: Gguf(kind) for i, kind in ((8, "q8_0"), (10, "q2_k"), (11, "q3_k"), (12, "q4_k"))},
    **{i: Gguf(kind) for i, kind in ((13, "q5_k"), (14, "q6_k"))},
}
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8",
    12: "<f8",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
_MAX_DEPTH = 4
_MAX_AXES = 4  # as in the format's own library
# What a small file may hold; a large one may hold more, and takes less memory than it has bytes.
_MAX_TEXTS = 700_000  # in all arrays; a text takes some eighty bytes more than in the file
_MAX_PARTS = 1 << 16  # keys, tensors, and arrays in arrays: some hundreds of bytes each


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies, the outermost axis first."""

    encoding: Encoding
    shape: Shape
    offset: int


class GgufFile:
    """One mapped file: `metadata` by key, `entries` by the names of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        walk = _Walk(self._file)
        try:
            num_tensors, num_keys = walk.head()
            self.metadata: Mapping[str, Any] = walk.metadata(num_keys)
            infos = [walk.tensor_info() for _ in range(num_tensors)]
        except _Malformed as error:
            raise ModelFileError(path, [f"at byte {walk.at}: {error}"]) from None
        except UnicodeDecodeError:
            raise ModelFileError(path, [f"at byte {walk.at}: a text that is not UTF-8"]) from None
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & alignment - 1:
            said = alignment if isinstance(alignment, int) else type(alignment).__name__
            why = f"'general.alignment' is {said}, not a power of two up to {1 << 20}"
            raise ModelFileError(path, [why])
        start = -(-walk.at // alignment) * alignment
        self.entries, faults = _entries(infos, start, self._file.size, alignment)
        if faults:
            raise ModelFileError(path, faults)

    @property
    def stamp(self) -> Stamp:
        """What the file is known by."""
        return self._file.stamp

    def tensor(self, name: str) -> Tensor:
        """A tensor as the file holds it."""
        self._file.check()
        entry = self.entries[name]
        if isinstance(entry.encoding, Plain):
            dtype = entry.encoding.dtype.name
            data = self._file.array(entry.offset, dtype, entry.shape)
            return Tensor(entry.shape, entry.encoding, {"data": data})
        assert isinstance(entry.encoding, Gguf)
        row = entry.encoding.row_bytes(entry.shape[-1])
        blocks = self._file.array(entry.offset, "uint8", (*entry.shape[:-1], row))
        return Tensor(entry.shape, entry.encoding, {"blocks": blocks})


class _Malformed(Exception):
    pass


Info = tuple[str, Shape, int, int]


class _Walk:
    """A position in the file that only moves forward, and never past the end."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self.at = 0
        self._texts_left = _MAX_TEXTS + file.size // 128
        self._most_parts = _MAX_PARTS + file.size // 1024
        self._inner_left = self._most_parts

    def _take(self, count: int) -> bytes:
        if count > self._file.size - self.at:
            raise _Malformed(f"{count} bytes are wanted, {self._file.size - self.at} are left")
        self.at += count
        return self._file.bytes(self.at - count, self.at)

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _text(self) -> str:
        return self._take(self._u64()).decode("utf-8")

    def head(self) -> tuple[int, int]:
        if self._take(4) != b"GGUF":
            raise _Malformed("it does not begin with 'GGUF'")
        version = self._u32()
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
            why = "written for machines of the other byte order" if swapped else "not read"
            raise _Malformed(f"version {version} is {why}; versions 2 and 3 are read")
        num_tensors, num_keys = self._u64(), self._u64()
        left = self._file.size - self.at
        if num_tensors * 24 + num_keys * 13 > left:  # the fewest bytes that each can take
            raise _Malformed(f"{num_tensors} tensors and {num_keys} keys do not fit {left} bytes")
        if max(num_tensors, num_keys) > self._most_parts:
            raise _Malformed(
                f"{num_tensors} tensors and {num_keys} keys are more than such a file ever holds"
            )
        return num_tensors, num_keys

    def metadata(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._text()
            if key in found:
                raise _Malformed(f"key {quoted(key)} is there twice")
            found[key] = self._value(self._u32(), _MAX_DEPTH)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            dtype = np.dtype(_SCALARS[kind])
            return np.frombuffer(self._take(dtype.itemsize), dtype)[0].item()
        if kind == _BOOL:
            return self._take(1) != b"\0"
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY and depth:
            return self._array(depth - 1)
        raise _Malformed(f"values of type {kind} are not known, or nested too deeply")

    def _array(self, depth: int) -> Any:
        """Numbers as an array, everything else as a list."""
        kind, count = self._u32(), self._u64()
        if kind in _SCALARS or kind == _BOOL:
            dtype = np.dtype(_SCALARS.get(kind, "?"))
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        least = 8 if kind == _STRING else 12
        if count * least > self._file.size - self.at:
            raise _Malformed(
                f"an array of {count} where {self._file.size - self.at} bytes are left"
            )
        if kind == _STRING:
            self._texts_left -= count
            if self._texts_left < 0:
                raise _Malformed("more texts in arrays than such a file ever holds")
            return self._texts(count)
        self._inner_left -= count
        if self._inner_left < 0:
            raise _Malformed("more arrays in arrays than such a file ever holds")
        return [self._value(kind, depth) for _ in range(count)]

    def _texts(self, count: int) -> list[str]:
        """A vocabulary has hundreds of thousands of texts, so this loop does without calls."""
        read, at, size = self._file.bytes, self.at, self._file.size
        found: list[str] = []
        for _ in range(count):
            start = at + 8
            if start > size:
                raise _Malformed("it ends inside an array of texts")
            at = start + int.from_bytes(read(start - 8, start), "little")
            if at > size:
                raise _Malformed(f"a text of {at - start} bytes, {size - start} are left")
            found.append(read(start, at).decode("utf-8", "strict"))
        self.at = at
        return found

    def tensor_info(self) -> Info:
        name = self._text()
        num_axes = self._u32()
        if num_axes > _MAX_AXES:
            raise _Malformed(f"tensor {quoted(name)} has {num_axes} axes")
        axes = struct.unpack(f"<{num_axes}Q", self._take(8 * num_axes))
        return name, tuple(reversed(axes)), self._u32(), self._u64()


def _entries(
    infos: list[Info], start: int, size: int, alignment: int
) -> tuple[dict[str, Entry], list[str]]:
    """All tensors, or all that is wrong with them."""
    found: dict[str, Entry] = {}
    faults = []
    beyond = []
    ranges = []
    for name, shape, kind, offset in infos:
        what = f"tensor {quoted(name)}"
        encoding = TYPES.get(kind)
        if name in found:
            faults.append(f"{what} is there twice")
            continue
        if encoding is None:
            faults.append(f"{what} has type {_type_name(kind)}, which is not read")
            continue
        num_bytes = _num_bytes(encoding, shape)
        found[name] = Entry(encoding, shape, start + offset)
        if not can_be(shape):
            faults.append(f"{what} cannot have the shape {list(shape)}")
        elif num_bytes is None:
            faults.append(f"{what} of shape {list(shape)} has no rows of whole '{encoding}' blocks")
        elif offset % alignment:
            faults.append(f"{what} lies at {offset}, not at a multiple of {alignment}")
        elif start + offset + num_bytes > size:
            beyond.append(f"{what} of {num_bytes} bytes at {start + offset} ends past {size}")
        else:
            ranges.append((offset, offset + num_bytes, what))
    if beyond:  # of a file that was cut, mostly: the first says it for all
        more = f", the file's end, as do {len(beyond) - 1} more" if len(beyond) > 1 else ""
        faults.append(beyond[0] + more)
    last = 0
    before = ""
    for first, end, what in sorted(ranges):
        if first < last:
            faults.append(f"{what} overlaps {before}")
        if end >= last:
            last, before = end, what
    return found, faults


def _num_bytes(encoding: Encoding, shape: Shape) -> int | None:
    rows, columns = rows_and_columns(shape)
    if isinstance(encoding, Plain):
        return rows * columns * encoding.dtype.itemsize
    assert isinstance(encoding, Gguf)
    if not shape or columns % encoding.block.columns:
        return None
    return rows * encoding.row_bytes(columns)


def _type_name(kind: int) -> str:
    from gguf import GGMLQuantizationType

    try:
        return GGMLQuantizationType(kind).name
    except ValueError:
        return f"number {kind}"


def raw(one: Tensor) -> Array:
    """The bytes of a tensor that a GGUF file holds as it is."""
    return one.parts["blocks" if isinstance(one.encoding, Gguf) else "data"]
