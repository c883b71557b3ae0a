"""Whose each name was when it was first seen, kept on this machine for each index.

An index could give a name to another publisher under its own signature; what was seen once is held
against that. Knows names and publishers, and nothing of what either has signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_marketplace.errors import Untrusted
from llama_marketplace.index.layout import write_whole


class Pins:
    """One file of them, read again only when another process has written it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: dict[str, str] = {}
        self._new: dict[str, str] = {}  # of them, what is not in the file yet
        self._read_at: tuple[int, int, int] | None = None
        self._together = False

    def whose(self, name: str, publisher: str) -> str:
        """Whose a name was when it was first seen; whose it is now, if it never was."""
        self._read()
        if name not in self._seen:
            self._seen[name] = self._new[name] = publisher
            if not self._together:
                self._write()
        return self._seen[name]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is new once, at the end: ten thousand names are not ten thousand files."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._write()

    def _read(self) -> None:
        at = self._stat()
        if at == self._read_at:
            return
        try:
            seen = json.loads(self.file.read_bytes()) if at else {}
            if not isinstance(seen, dict):
                raise ValueError("not an object")
        except (OSError, ValueError) as error:
            raise Untrusted(
                f"{self.file}, which says whose each name was, cannot be read: {error}",
                remedy="Remove it, and names will be held to whose they are now.",
            ) from None
        self._seen, self._read_at = {**self._new, **seen}, at

    def _write(self) -> None:
        if not self._new:
            return
        self._read()  # what another process has seen meanwhile stays
        self._new.clear()
        write_whole(self.file, json.dumps(self._seen, sort_keys=True).encode())
        self._read_at = self._stat()

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            now = self.file.stat()
        except OSError:
            return None
        return now.st_mtime_ns, now.st_size, now.st_ino
