"""The files of one rank in a checkpoint: arrays in safetensors of bounded size, and what they hold.

A part is staged beside the storage and then put, so that a full disk or a crash leaves no part of
one under its name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llama_core.contracts.storage import Storage
from llama_core.model.encodings import Plain
from llama_core.model.files.safetensors import SafetensorsFile, write
from llama_core.model.weights import Tensor
from llama_plugin_train.runs.arrays import Array, Held
from llama_plugin_train.sealed import DamagedError, digest_of_file, seal, unseal

PART_BYTES = 1 << 30  # what is needed on the disk besides the checkpoint itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where one checkpoint's files are: a storage, a prefix in it, and room for staging."""

    storage: Storage
    folder: str
    scratch: Path

    def put(self, name: str, data: bytes) -> None:
        """A small file."""
        with self.staging() as staged:
            staged.write_bytes(data)
            self.storage.put(staged, f"{self.folder}/{name}")

    def get(self, name: str) -> bytes:
        with self.staging() as staged:
            self.storage.get(f"{self.folder}/{name}", staged)
            return staged.read_bytes()

    def names(self) -> list[str]:
        start = len(self.folder) + 1
        return [name[start:] for name in self.storage.list(f"{self.folder}/")]

    def staging(self) -> _Staging:
        return _Staging(self.scratch)


class _Staging:
    """A path in the scratch folder, gone afterwards."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __enter__(self) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=self._scratch, prefix="staging-")
        return Path(self._folder.name) / "file"

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def described(rank: int, num_ranks: int) -> str:
    """The name of the file that tells what one rank's parts hold."""
    return f"part-{rank:05}-of-{num_ranks:05}.json"


def write_parts(place: Place, rank: int, num_ranks: int, held: Mapping[str, Held]) -> None:
    """Put one rank's arrays, then what they are."""
    files = []
    for number, names in enumerate(_bounded(held)):
        file = f"part-{rank:05}-of-{num_ranks:05}-{number:03}.safetensors"
        with place.staging() as staged:
            chosen = {name: held[name] for name in names}
            write(staged, {name: _tensor(one) for name, one in chosen.items()}, {})
            entry = {"file": file, "bytes": staged.stat().st_size}
            entry["sha256"] = digest_of_file(staged)
            entry["arrays"] = {name: one.facts() for name, one in chosen.items()}
            place.storage.put(staged, f"{place.folder}/{file}")
        files.append(entry)
    place.put(described(rank, num_ranks), seal({"files": files}))


def read_description(place: Place, rank: int, num_ranks: int) -> list[dict[str, Any]]:
    """The entries of one rank's parts, and one of the description itself."""
    name = described(rank, num_ranks)
    data = place.get(name)
    itself = {"file": name, "bytes": len(data), "sha256": sha256(data).hexdigest(), "arrays": {}}
    return [*unseal(data, f"{place.folder}/{name}")["files"], itself]


def read_part(place: Place, entry: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """The arrays of a part as bits, valid while it is iterated, once its digest was checked."""
    with place.staging() as staged:
        fetch_checked(place, entry, staged)
        part = SafetensorsFile(staged)
        for name in entry["arrays"]:
            yield name, part.array(name)


def fetch_checked(place: Place, entry: Mapping[str, Any], target: Path) -> None:
    name = f"{place.folder}/{entry['file']}"
    place.storage.get(name, target)
    if (size := target.stat().st_size) != entry["bytes"]:
        raise DamagedError(f"{name} is damaged: it has {size} of {entry['bytes']} bytes")
    if digest_of_file(target) != entry["sha256"]:
        raise DamagedError(f"{name} is damaged: its digest is not the one in the manifest")


def _bounded(held: Mapping[str, Held]) -> Iterator[list[str]]:
    """Names in groups of bounded size; an array larger than that is a group of its own."""
    names: list[str] = []
    size = 0
    for name, one in held.items():
        if names and size + one.data.nbytes > PART_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += one.data.nbytes
    if names:
        yield names


def _tensor(one: Held) -> Tensor:
    return Tensor(one.data.shape, Plain(one.kind), {"data": one.data})
