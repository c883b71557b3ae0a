"""A folder as a storage: each name a file below it, written aside and renamed, its digest kept too.

The files lie under their own names, so that any tool reads them. Digests are in `.digests`; while a
name is replaced its digest file holds the old one and the new one, so that whichever file a crash
leaves is known. One process writes a name at a time; any number read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from llama_core.durable import sync_folder
from llama_core.errors import LlamaError, plain

_DIGESTS, _PARTS = ".digests", ".parts"
_CHUNK_BYTES = 1 << 20
_ABANDONED_SECONDS = 3600  # who writes a part writes to it all the time


class StorageError(LlamaError):
    """A file could not be stored, fetched or removed."""

    code = "storage_failed"


class FolderStorage:
    """Files below one root, which is made when the first is put."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        self._clean = False

    def put(self, source: Path, name: str) -> None:
        target, digests = self._at(name), self.root / _DIGESTS / name
        try:
            with source.open("rb") as file:
                for folder in (target.parent, digests.parent, self.root / _PARTS):
                    _make(folder)
                self._remove_abandoned()
                known = _known(digests) if target.exists() else []
                with _Aside(self.root / _PARTS) as aside:
                    digest = aside.copy(file)
                    self._keep_digests(digests, [*known, digest])
                    aside.becomes(target)
            if known:
                self._keep_digests(digests, [digest])
        except OSError as error:
            raise StorageError(
                f"cannot store {source} as {name!r} in {self.root}: {_why(error)}",
                remedy="What was there before is whole. Free some space or choose another place.",
            ) from error

    def get(self, name: str, target: Path) -> None:
        source = self._at(name)
        if not source.is_file():
            raise StorageError(f"there is no {name!r} in {self.root}")
        try:
            with source.open("rb") as file, _Aside(target.parent) as aside:
                if aside.copy(file) not in _known(self.root / _DIGESTS / name):
                    raise StorageError(f"{name!r} in {self.root} is damaged, or was changed there")
                aside.becomes(target, durable=False)
        except OSError as error:
            raise StorageError(
                f"cannot fetch {name!r} from {self.root} to {target}: {_why(error)}"
            ) from error

    def list(self, prefix: str = "") -> Iterator[str]:
        found = []
        for folder, folders, files in os.walk(self.root):
            where = Path(folder).relative_to(self.root)
            if not where.parts:
                folders[:] = [one for one in folders if one not in (_DIGESTS, _PARTS)]
            found += [(where / file).as_posix() for file in files]
        return iter(sorted(name for name in found if name.startswith(prefix)))

    def delete(self, name: str) -> None:
        try:
            for path, root in (
                (self._at(name), self.root),
                (self.root / _DIGESTS / name, self.root / _DIGESTS),
            ):
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
        except OSError as error:
            raise StorageError(f"cannot remove {name!r} from {self.root}: {_why(error)}") from error

    def _at(self, name: str) -> Path:
        parts = name.split("/")
        if (
            not all(part.strip(".") for part in parts)
            or not name.isprintable()
            or "\\" in name
            or parts[0] in (_DIGESTS, _PARTS)
        ):
            raise StorageError(
                f"'{plain(name)}' cannot name a stored file",
                remedy="Use printable parts joined by slashes.",
            )
        return self.root.joinpath(*parts)

    def _remove_abandoned(self) -> None:
        """Parts that a killed writer left, once for each opening."""
        if self._clean:
            return
        for part in (self.root / _PARTS).iterdir():
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                    part.unlink()
        self._clean = True

    def _keep_digests(self, path: Path, digests: Iterable[str]) -> None:
        with _Aside(self.root / _PARTS) as aside:
            aside.file.write("\n".join(digests).encode())
            aside.becomes(path)


class _Aside:
    """A file beside its place, which takes that place whole or is removed."""

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        self.file, self.path = os.fdopen(handle, "wb"), Path(name)

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def copy(self, source: BinaryIO) -> str:
        """Write all of a file; its SHA-256."""
        digest = hashlib.sha256()
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            self.file.write(chunk)
        return digest.hexdigest()

    def becomes(self, target: Path, *, durable: bool = True) -> None:
        """Be there under this name; if durable, also after a crash."""
        self.file.flush()
        if durable:
            os.fsync(self.file.fileno())
        self.file.close()
        self.path.replace(target)
        if durable:
            sync_folder(target.parent)


def _known(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("ascii", "replace").split("\n")
    except FileNotFoundError:
        return []


def _make(folder: Path) -> None:
    """A folder, and the folders above it, whose entries survive a crash."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _remove_empty(folder: Path, root: Path) -> None:
    """Folders that held only what was removed go with it."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _why(error: OSError) -> str:
    return error.strerror or str(error)
