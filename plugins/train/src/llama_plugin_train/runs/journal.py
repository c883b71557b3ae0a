"""A file of JSON lines that only grows: each record is appended in one write.

A crash can leave a torn last line. It is cut off, and said, when the journal is opened again; a
line that is broken anywhere else is an error that names it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_plugin_train.runs.faults import RunError


class Journal:
    """Records in a file. With `durable`, each survives a crash of the machine once appended."""

    def __init__(
        self, path: Path, *, durable: bool = False, announcements: Announcements | None = None
    ) -> None:
        self.path, self.durable = path, durable
        self._announcements = announcements or Announcements()
        self._handle: int | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record."""
        try:
            line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        except (TypeError, ValueError) as error:
            raise RunError(
                f"a record for {self.path} is not JSON: {error}",
                remedy="Write numbers that are not finite as null or as text.",
            ) from error
        try:
            if self._handle is None:
                self._handle = self._open()
            self._write(self._handle, line.encode())
        except OSError as error:
            raise RunError(
                f"cannot append to {self.path}: {error.strerror}",
                remedy="What was recorded before is whole; free some space.",
            ) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """All records, first to last; none where there is no file yet."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, 1):
                record = _parsed(line)
                if record is not None:
                    yield record
                elif line.endswith(b"\n"):
                    raise RunError(
                        f"line {number} of {self.path} is damaged",
                        remedy="Restore the file, or move it away to begin a new one.",
                    )
                else:
                    self._announcements.note(f"the torn last line of {self.path} is ignored")

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        torn = _torn_bytes(self.path)
        if torn:
            self._announcements.note(f"a torn last line of {torn} bytes is cut off {self.path}")
            os.ftruncate(handle, os.fstat(handle).st_size - torn)
        return handle

    def _write(self, handle: int, data: bytes) -> None:
        before = os.fstat(handle).st_size
        try:
            written = os.write(handle, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.durable:
                os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise


def _torn_bytes(path: Path) -> int:
    """How much follows the last end of a line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while len(tail) < size:
            start = max(0, size - len(tail) - 65536)
            file.seek(start)
            tail = file.read(size - len(tail) - start) + tail
            if b"\n" in tail:
                return len(tail) - tail.rindex(b"\n") - 1
        return len(tail)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and line.endswith(b"\n") else None
