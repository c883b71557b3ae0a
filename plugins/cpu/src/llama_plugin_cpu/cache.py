"""The cache of packed weights: which file holds which model, who writes it, what is thrown away.

A model is packed once and mapped from then on, by as many processes as like. A file's name is a
digest of what went into it: where every tensor comes from (`Weights.origin`), what was done to it
since, which nodes read it, and how the library packs. Nothing here changes an answer: where the
folder cannot be used the weights are packed in memory, and that is said.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_core
from llama_core.announce import Announcements
from llama_core.errors import ConfigError
from llama_core.model.graph import Graph
from llama_core.model.origin import Stamp
from llama_core.model.weights import Weights
from llama_plugin_cpu import native
from llama_plugin_cpu.backend import memory_bytes
from llama_plugin_cpu.packfile import FORMAT, Pack, PackFault, PackWriter

ENVIRONMENT = "LLAMA_CPU_CACHE"  # a folder, or "off"
MOST_BYTES = 32 << 30
LEAST_NUMBERS = 1 << 25  # what is smaller is packed in 0.15 s: 220 million a second on two cores
RACY_SECONDS = 2.0  # a file written so shortly before could change again within the same time
ABANDONED_SECONDS = 3600.0  # whoever writes a file writes some of it every few seconds


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model's packed weights are known by."""

    key: str
    files: tuple[Stamp, ...]
    names: frozenset[str]  # weights with an origin: only these are kept
    numbers: int


def identity(graph: Graph, weights: Weights) -> Identity:
    """By origin, encoding, shape and use of every weight that has an origin; reads no numbers."""
    uses: dict[str, list[tuple[str, str]]] = {}
    for node in graph.nodes:
        for role, name in node.weights.items():
            uses.setdefault(name, []).append((node.op, role))
    told: list[Any] = [FORMAT, native.packing(), llama_core.__version__]
    files: dict[Stamp, int] = {}
    numbers, names = 0, []
    for name, used in uses.items():
        origin = weights.origin(name)
        if origin is None:
            continue
        places = [files.setdefault(one, len(files)) for one in origin.files]
        shape, encoding = weights.about(name)
        told.append([name, used, places, origin.steps, str(encoding), shape])
        size = 1
        for length in shape:
            size *= length
        numbers += size
        names.append(name)
    text = json.dumps([told, list(files)])
    key = hashlib.sha256(text.encode()).hexdigest()
    return Identity(key, tuple(files), frozenset(names), numbers)


class Shelf:
    """Where a program's packed weights come from, or go to; nowhere, by default."""

    def __init__(self, pack: Pack | None = None) -> None:
        self.pack = pack

    def found(self, label: str) -> dict[str, Any] | None:
        """What is known of a weight that was packed before."""
        return None if self.pack is None else self.pack.sections.get(label)

    def keep(self, label: str, name: str, about: dict[str, Any], parts: dict[str, Any]) -> None:
        """Write down a weight that was packed just now."""

    def done(self) -> None:
        """All weights have come."""

    def close(self) -> None:
        """They will not come: what was written is thrown away."""


@dataclass
class Cache:
    """A folder of packed weights; None for no folder."""

    folder: Path | None
    most_bytes: int = MOST_BYTES
    announcements: Announcements = field(default_factory=Announcements)

    def open(self, graph: Graph, weights: Weights) -> Shelf:
        """The packed weights of a model, or where to put them."""
        if self.folder is None:
            return Shelf()
        one = identity(graph, weights)
        if one.numbers < LEAST_NUMBERS:
            return Shelf()
        path = self.folder / f"{one.key}.pack"
        try:
            pack = Pack(path, one.key)
            pack.touch()
            if pack.num_bytes < memory_bytes() // 2:  # of a larger one, only what is needed
                pack.call_ahead({node.weights["weight"] for node in graph.of("linear")})
            return Shelf(pack)
        except FileNotFoundError:
            self._drop_stale(one)
        except (PackFault, OSError, ValueError, KeyError, TypeError) as error:
            self._say(f"the packed weights in {path} cannot be used ({error}) and are made anew")
        newest = max((file.modified_ns for file in one.files), default=0)
        if time.time_ns() - newest < RACY_SECONDS * 1e9:
            return Shelf()
        self._drop_abandoned()
        try:
            return _Filling(self, path, one)
        except OSError as error:
            self.cannot(error)
            return Shelf()

    def _drop_stale(self, one: Identity) -> None:
        """Throw away what was made of a file that has since been changed or replaced."""
        now = {file.path: list(file) for file in one.files}
        for path in self.paths():
            with contextlib.suppress(PackFault, OSError, ValueError, KeyError, TypeError):
                used_ns = path.stat().st_atime_ns
                pack = Pack(path)
                pack.touch(used_ns)  # to look at it is not to use it
                was = pack.index["files"]
                if changed := [f[0] for f in was if now.get(f[0], f) != f]:
                    self._say(f"{changed[0]} has changed, so its weights are packed anew")
                    path.unlink()

    def _drop_abandoned(self) -> None:
        """Throw away what was begun by processes that were ended: nobody else comes back to it."""
        for path in self.parts():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    freed = _remove_part(path)
                    self._say(f"removed {path} ({freed:,} bytes), begun and never finished")

    def paths(self) -> list[Path]:
        """All files of packed weights, whole ones only."""
        return [] if self.folder is None else sorted(self.folder.glob("*.pack"))

    def parts(self) -> list[Path]:
        """All that are not whole: being written, or left by who was ended."""
        return [] if self.folder is None else sorted(self.folder.glob("*.part"))

    def trim(self, but: Path) -> None:
        """Throw away what has not been used for the longest time, until the rest fits."""
        used = {}
        for path in self.paths():
            with contextlib.suppress(OSError):
                found = path.stat()
                used[path] = (found.st_atime_ns, found.st_size)
        total = sum(size for _, size in used.values())
        for path in sorted(used, key=lambda p: used[p]):
            if total <= self.most_bytes or path == but:
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                total -= used[path][1]
                self._say(f"removed {path}, unused for the longest time, from the packed weights")

    def clear(self) -> int:
        """Remove everything that nobody is writing; gives the bytes freed."""
        freed = 0
        for path in self.paths():
            with contextlib.suppress(FileNotFoundError):
                freed += path.stat().st_size
                path.unlink()
        for path in self.parts():
            with contextlib.suppress(OSError):
                freed += _remove_part(path)
        return freed

    def cannot(self, error: OSError) -> None:
        self._say(
            f"packed weights cannot be kept in {self.folder} ({error.strerror or error}), so they "
            "are packed in memory each time",
            remedy=f"Set {ENVIRONMENT} to another folder, or to 'off'.",
        )

    def _say(self, message: str, remedy: str | None = None) -> None:
        self.announcements.note(message, remedy=remedy)


class _Filling(Shelf):
    """A file under way. Whatever goes wrong with it is said, and the program is none the worse."""

    def __init__(self, cache: Cache, path: Path, one: Identity) -> None:
        super().__init__()
        self._cache, self._path, self._identity = cache, path, one
        self._part = path.with_suffix(".part")
        self._open = contextlib.ExitStack()
        self._writer: PackWriter | None = None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            file = self._open.enter_context(_locked(self._part))
        except BlockingIOError:
            return  # another process is packing the same model: one file is enough
        self._digests = _Digests(one.files)
        try:
            file.truncate()
            self._writer = PackWriter(file, cache.most_bytes)
        except OSError:
            self._throw_away()
            raise

    def keep(self, label: str, name: str, about: dict[str, Any], parts: dict[str, Any]) -> None:
        if self._writer is None or name not in self._identity.names or label in self._writer:
            return
        try:
            self._writer.add(label, about, parts)
        except OSError as error:
            self.close()
            self._cache.cannot(error)

    def done(self) -> None:
        if self._writer is None:
            return
        one = self._identity
        about = {"key": one.key, "files": one.files, "digests": self._digests.result()}
        try:
            self._writer.finish(about)
            if any(not is_unchanged(file) for file in one.files):
                raise OSError("the model was written to while it was packed")
            os.replace(self._part, self._path)
            _sync(self._path.parent)
        except OSError as error:
            self.close()
            self._cache.cannot(error)
            return
        self._writer = None
        self._open.close()
        self._cache.trim(self._path)

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer = None
        self._throw_away()

    def _throw_away(self) -> None:
        self._digests.stop()
        with contextlib.suppress(OSError):
            self._part.unlink()
        with contextlib.suppress(OSError):  # what is left in its buffer may not fit either
            self._open.close()


class _Digests:
    """SHA-256 of the model's files, taken in a thread while they are packed."""

    def __init__(self, files: tuple[Stamp, ...]) -> None:
        self._found: dict[str, str] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, args=(files,), daemon=True)
        self._thread.start()

    def _run(self, files: tuple[Stamp, ...]) -> None:
        for file in files:
            with contextlib.suppress(OSError):
                self._found[file.path] = digest(file.path, lambda: self._stopped)

    def result(self) -> Mapping[str, str]:
        self._thread.join()
        return self._found

    def stop(self) -> None:
        self._stopped = True


def digest(path: str, stopped: Any = lambda: False) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while not stopped() and (block := file.read(1 << 20)):
            found.update(block)
    return found.hexdigest()


def is_unchanged(file: Stamp) -> bool:
    """Whether a file still is what its stamp says; one that was replaced while open may be."""
    from llama_core.model.origin import stamp

    try:
        return stamp(Path(file.path), os.stat(file.path)) == file
    except OSError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Any]:
    """The file, open for writing and nobody else's. BlockingIOError where it is another's."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            same = os.stat(path).st_ino == os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            same = False
        if not same:  # while we waited for the lock, its owner gave the file its final name
            raise BlockingIOError("another process has finished it")
        yield file


def _remove_part(path: Path) -> int:
    """Its bytes. BlockingIOError where somebody is writing it: who writes holds the lock."""
    with _locked(path) as file:
        path.unlink()
        return os.fstat(file.fileno()).st_size


def _sync(folder: Path) -> None:
    """Make the new name durable, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settings(cache: str, most_bytes: int) -> tuple[Path | None, int]:
    """Folder and bound: the options, the environment, the user's cache directory, in this order."""
    if cache == "auto":
        cache = os.environ.get(ENVIRONMENT, "") or "auto"
    if cache == "off":
        return None, 0
    said = os.environ.get(f"{ENVIRONMENT}_BYTES", "")
    if said and not said.isdecimal():
        raise ConfigError(
            f"{ENVIRONMENT}_BYTES is {said!r}, and must be a number of bytes",
            remedy="Unset it for 32 GiB.",
        )
    most = most_bytes or int(said or MOST_BYTES)
    if cache != "auto":
        return Path(cache).expanduser(), most
    import platformdirs

    return Path(platformdirs.user_cache_dir("llama-core", appauthor=False), "cpu"), most
