"""One file of packed weights: written from front to back, mapped afterwards.

A head of fixed size, the sections one after another, an index in JSON, and a margin that kernels
may prefetch from. Opening believes nothing: the head's numbers, the digest of the index, the bounds
of every section and the seal are checked, which takes no longer for a large model. The seal is the
file's time of writing: it is set to the one in the head, so whatever is written later breaks it.
What only a disk could have changed is found by `faults`, which reads everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import threading
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"LLAMACPU"
FORMAT = 1
HEAD = struct.Struct("<8sIIqqqq32s")  # magic, format, 0, size, index offset and bytes, seal, digest
FIRST = 4096  # where sections begin
MARGIN = 4096  # behind everything
ALIGNMENT = 64
SEAL_NS = 2_000_000_000  # every file system keeps times as coarse as this
MAX_INDEX = 1 << 28
# Written at a time, from a multiple of itself on: Linux then keeps the file in huge pages.
CHUNK = 8 << 20
MAPPED_TOGETHER = 1 << 16  # bytes around one that is touched, by Linux's default


class PackFault(Exception):
    """Why a file is not what it should be."""


class PackWriter:
    """Sections into an open file, then the index and the head. Digests are taken on the way."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file = file
        self._most = most_bytes
        self._sections: dict[str, dict[str, Any]] = {}
        self._at = 0
        self._chunk = bytearray()
        self._write(bytes(FIRST))

    def __contains__(self, label: str) -> bool:
        return label in self._sections

    def add(self, label: str, about: dict[str, Any], parts: dict[str, Any]) -> None:
        """One weight: what is known of it, and its bytes by name."""
        digest = hashlib.sha256()
        places = {}
        for name, part in parts.items():
            self._write(bytes(-self._at % ALIGNMENT))
            places[name] = [self._at, len(part)]
            digest.update(part)
            self._write(part)
        self._sections[label] = {**about, "parts": places, "sha256": digest.hexdigest()}

    def finish(self, about: dict[str, Any]) -> None:
        """Make the file whole, and durable. Its name is for the caller to give."""
        index = json.dumps({**about, "sections": self._sections}).encode()
        at = self._at
        self._write(index)
        self._write(bytes(MARGIN))
        seal = time.time_ns() // SEAL_NS * SEAL_NS
        digest = hashlib.sha256(index).digest()
        self._file.write(self._chunk)
        self._file.seek(0)
        self._file.write(HEAD.pack(MAGIC, FORMAT, 0, self._at, at, len(index), seal, digest))
        self._file.flush()
        os.utime(self._file.fileno(), ns=(time.time_ns(), seal))
        os.fsync(self._file.fileno())

    def _write(self, data: Any) -> None:
        if self._at + len(data) > self._most:
            raise OSError(f"it would take more than the {self._most} bytes that it may have")
        self._at += len(data)
        for part in _cut(memoryview(data), CHUNK - len(self._chunk)):
            self._chunk += part
            if len(self._chunk) == CHUNK:
                self._file.write(self._chunk)
                self._chunk.clear()


def _cut(data: Any, first: int) -> Iterator[Any]:
    """All of it: so many bytes, then chunks."""
    yield data[:first]
    for at in range(first, len(data), CHUNK):
        yield data[at : at + CHUNK]


class Pack:
    """A mapped file of packed weights. The mapping lives as long as anything looks into it."""

    def __init__(self, path: Path, key: str | None = None) -> None:
        self.path = path
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size < FIRST + MARGIN:
                raise PackFault("it is cut short")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them: the same, a little slower
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.num_bytes = found.st_size
        self.index = self._read_index(found)
        if key is not None and self.index.get("key") != key:
            raise PackFault("it was made of other weights")
        self.sections = self._checked_sections()

    def _read_index(self, found: os.stat_result) -> dict[str, Any]:
        magic, form, _, size, at, length, seal, digest = HEAD.unpack_from(self._map)
        if magic != MAGIC or form != FORMAT:
            raise PackFault("it is no file of packed weights that this version reads")
        if size != found.st_size:
            raise PackFault(f"it has {found.st_size} bytes and was written with {size}")
        if found.st_mtime_ns != seal:
            raise PackFault("it was changed after it was written")
        if not FIRST <= at <= at + length <= size - MARGIN or length > MAX_INDEX:
            raise PackFault("its index lies outside of it")
        text = self._map[at : at + length]
        if hashlib.sha256(text).digest() != digest:
            raise PackFault("its index is damaged")
        index: dict[str, Any] = json.loads(text)
        self._end = at
        return index

    def _checked_sections(self) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = self.index["sections"]
        for label, one in sections.items():
            for at, length in one["parts"].values():
                if not FIRST <= at <= at + length <= self._end or at % ALIGNMENT:
                    raise PackFault(f"the section of {label} lies outside of it")
        return sections

    def part(self, label: str, name: str) -> memoryview | None:
        """Some bytes of a weight as they lie, read-only."""
        place = self.sections[label]["parts"].get(name)
        return None if place is None else memoryview(self._map)[place[0] : place[0] + place[1]]

    def array(self, label: str, name: str, dtype: str) -> NDArray[Any] | None:
        found = self.part(label, name)
        return None if found is None else np.frombuffer(found, dtype)

    def call_ahead(self, labels: Container[str]) -> None:
        """Have the file mapped, and read where it is not in memory, from the first of these on: by
        a thread, since what is left of loading takes as long. Touching takes nobody's turn."""
        starts = [
            at
            for label in self.sections
            if label in labels
            for at, _ in self.sections[label]["parts"].values()
        ]
        if starts:
            numbers = np.frombuffer(self._map, np.uint8, self._end - min(starts), min(starts))
            threading.Thread(target=numbers[::MAPPED_TOGETHER].max, daemon=True).start()

    def faults(self) -> list[str]:
        """What the digests of all sections find, which reads every byte."""
        found = []
        for label, one in self.sections.items():
            digest = hashlib.sha256()
            for name in one["parts"]:
                digest.update(self.part(label, name) or b"")
            if digest.hexdigest() != one["sha256"]:
                found.append(f"the section of {label} is damaged")
        return found

    def touch(self, used_ns: int | None = None) -> None:
        """Remember when it was used, which is now; the seal stays."""
        try:
            now = os.stat(self.path)
            os.utime(self.path, ns=(used_ns or time.time_ns(), now.st_mtime_ns))
        except OSError:
            pass  # somebody else's folder, or gone: whoever clears it does not ask when it was used
