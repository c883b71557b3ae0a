"""Safetensors files: the header checked before anything is believed, tensors as views of the map.

It knows one file at a time: names, types, shapes and where they lie. Writing streams tensor by
tensor, so that a model larger than memory can be written. Folders, shards and quantized layouts are
known elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llama_core.durable import replace_file
from llama_core.model.encodings import Plain
from llama_core.model.encodings.base import Array, Shape
from llama_core.model.files.faults import ModelFileError, quoted
from llama_core.model.files.jsontext import parse_object
from llama_core.model.files.mapped import MappedFile
from llama_core.model.origin import Stamp
from llama_core.model.weights import Tensor

KINDS = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "f8e4m3",
    "F8_E5M2": "f8e5m2", "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8", "U64": "u64",
    "U32": "u32", "U16": "u16", "U8": "u8", "BOOL": "bool",
}  # fmt: skip
TYPES = {kind: name for name, kind in KINDS.items()}
_MAX_HEADER = 100_000_000  # the limit of the format's own reader


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies in its file."""

    kind: str
    shape: Shape
    offset: int


class SafetensorsFile:
    """One mapped file. `entries` in the order of the file, `metadata` as it stands there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        start, header = self._header()
        meta = header.pop("__metadata__", {})
        faults = []
        if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
            faults.append("'__metadata__' is not a mapping of strings")
            meta = {}
        self.metadata: dict[str, str] = meta
        self.entries: dict[str, Entry] = {}
        ranges = []
        for name, raw in header.items():
            read = _entry(name, raw, start, self._file.size)
            if isinstance(read, str):
                faults.append(read)
                continue
            self.entries[name], end = read
            ranges.append((self.entries[name].offset, end, name))
        faults += _layout_faults(sorted(ranges), start, self._file.size) if not faults else []
        if faults:
            raise ModelFileError(path, faults)

    def _header(self) -> tuple[int, dict[str, object]]:
        size = self._file.size
        if size < 8:
            raise ModelFileError(self.path, [f"{size} bytes are too few for a header"])
        length = int.from_bytes(self._file.bytes(0, 8), "little")
        if length > min(size - 8, _MAX_HEADER):
            raise ModelFileError(
                self.path, [f"the header claims {length} bytes, the file has {size - 8}"]
            )
        text = self._file.bytes(8, 8 + length)
        return 8 + length, parse_object(text, self.path, unique=True, file_bytes=size)

    @property
    def stamp(self) -> Stamp:
        """What the file is known by."""
        return self._file.stamp

    def array(self, name: str) -> Array:
        """The bytes of a tensor as a NumPy array of the type they are held in."""
        self._file.check()
        entry = self.entries[name]
        return self._file.array(entry.offset, Plain(entry.kind).dtype.name, entry.shape)

    def tensor(self, name: str) -> Tensor:
        """A tensor as the file holds it."""
        entry = self.entries[name]
        return Tensor(entry.shape, Plain(entry.kind), {"data": self.array(name)})


def _entry(name: str, raw: object, start: int, size: int) -> tuple[Entry, int] | str:
    """The entry and where it ends, or what is wrong with it."""
    what = f"tensor {quoted(name)}"
    if not isinstance(raw, dict) or not {"dtype", "shape", "data_offsets"} <= raw.keys():
        return f"{what} lacks dtype, shape or data_offsets"
    kind, shape, offsets = KINDS.get(str(raw["dtype"])), raw["shape"], raw["data_offsets"]
    if kind is None:
        return f"{what} has the unknown type {quoted(str(raw['dtype']))}"
    if not _counts(shape) or len(shape) > 32 or not can_be(shape):
        return f"{what} has no valid shape"
    if not _counts(offsets) or len(offsets) != 2:
        return f"{what} has no valid offsets"
    needed = Plain(kind).dtype.itemsize
    for length in shape:
        needed *= length
    first, last = offsets
    if not first <= last <= size - start:
        return f"{what} lies at [{first}, {last}), outside the {size - start} bytes of data"
    if last - first != needed:
        return f"{what} of shape {shape} takes {needed} bytes, its offsets give {last - first}"
    return Entry(kind, tuple(shape), start + first), start + last


def can_be(shape: Iterable[int]) -> bool:
    """Whether an array can have this shape at all; one of no numbers may still be too large."""
    extent = 1
    for length in shape:
        extent *= max(length, 1)
    return extent < 1 << 56


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _layout_faults(ranges: list[tuple[int, int, str]], start: int, size: int) -> list[str]:
    """The format wants the data covered by the tensors without overlap, gap or rest."""
    faults, at, last = [], start, "the header"
    for first, end, name in ranges:
        if first < at:
            faults.append(f"tensor {quoted(name)} overlaps {last}")
        elif first > at:
            faults.append(f"{first - at} bytes before tensor {quoted(name)} belong to none")
        at, last = max(at, end), f"tensor {quoted(name)}"
    if not faults and at != size:
        faults.append(f"{size - at} bytes after the last tensor belong to none")
    return faults


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write plain tensors, the widest types first so that each is aligned to its own size.

    The file appears only when it is whole: it is written beside its place and renamed into it.
    """
    names = sorted(tensors, key=lambda name: (-_width(tensors[name]), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name in names:
        one = tensors[name]
        end = at + one.size * _width(one)
        header[name] = {
            "dtype": TYPES[one.encoding.name],
            "shape": list(one.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, _chunks(len(text).to_bytes(8, "little") + text, names, tensors))


def _width(one: Tensor) -> int:
    assert isinstance(one.encoding, Plain)
    return one.encoding.dtype.itemsize


def _chunks(
    head: bytes, names: Iterable[str], tensors: Mapping[str, Tensor]
) -> Iterable[bytes | memoryview]:
    yield head
    for name in names:
        data = tensors[name].parts["data"]
        yield little_endian(data).reshape(-1).view(np.uint8).data if data.size else b""


def little_endian(data: Array) -> Array:
    """Contiguous, lowest byte first: as files hold numbers."""
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<"))


def write_whole(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """A model file that is there whole or not at all; what goes wrong names it."""
    try:
        replace_file(path, chunks)
    except OSError as error:
        remedy = f"Nothing was left at {path}; free some space or choose another place."
        raise ModelFileError(path, [f"cannot write: {error.strerror}"], remedy=remedy) from error
