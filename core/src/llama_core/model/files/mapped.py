"""A file mapped into memory, read-only, that notices when it changes underneath.

Arrays made from it are views: nothing is read until they are. Offsets are checked by those who
parse the file; here they are only asserted.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import numpy as np

from llama_core.model.encodings.base import Array, Shape
from llama_core.model.files.faults import FileChanged, ModelFileError
from llama_core.model.origin import stamp


class MappedFile:
    """Holds the mapping open as long as anything looks into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
                raise ModelFileError(path, ["it is not a regular file"])
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_size == 0:
                    raise ModelFileError(path, ["the file is empty"])
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ModelFileError(path, [error.strerror or str(error)]) from error
        self.size = len(self._map)
        self.stamp = stamp(path, found)
        self._stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """Raise where the file was written to since it was mapped; replacing it does no harm."""
        try:
            now = os.stat(self.path)
        except OSError:
            return  # removed or replaced: the mapping keeps the old file
        if (now.st_dev, now.st_ino) != self._stamp[:2]:
            return
        if (now.st_size, now.st_mtime_ns) != self._stamp[2:]:
            raise FileChanged(
                f"{self.path} was changed while it was open",
                remedy="Load the model again; replace files by renaming, not in place.",
            )

    def bytes(self, start: int, stop: int) -> bytes:
        """A copy of some bytes."""
        assert 0 <= start <= stop <= self.size
        return self._map[start:stop]

    def array(self, offset: int, dtype: str, shape: Shape) -> Array:
        """A read-only view; `dtype` is a NumPy name, numbers lie with the lowest byte first."""
        kind = np.dtype(dtype).newbyteorder("<")
        count = 1
        for length in shape:
            count *= length
        assert 0 <= offset <= offset + count * kind.itemsize <= self.size
        if count == 0:
            return np.empty(shape, kind)
        return np.frombuffer(self._map, kind, count, offset).reshape(shape)
