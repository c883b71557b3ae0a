"""Where what lies in an index: a folder of static files that any file server can host.

metadata/   who signs what: N.root.json, N.targets.json, N.PUBLISHER.json … timestamp.json
targets/    what is signed for: records, the catalogue, names; each under its own digest
wheels/     SHA256/FILENAME, for the wheels that the index holds itself
simple/     the same wheels for plain pip and uv
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from llama_core.durable import replace_file

# Fixed for all indexes: a client must know in which shard a name lies. Measured with 10,000
# plugins: fewer make the changed shard large, more make the list of shards large.
NUM_SHARDS = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one index."""

    folder: Path

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        return self.folder / "targets"

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def simple(self) -> Path:
        return self.folder / "simple"

    def target(self, path: str, sha256: str) -> Path:
        return self.targets / prefixed(path, sha256)


def prefixed(path: str, sha256: str) -> str:
    """The name of a target's file: a new content has a new name, so a mirror is never half new."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{sha256}.{name}"


def shard(name: str) -> str:
    """In which shard a distribution lies."""
    return f"{hashlib.sha256(name.encode()).digest()[0] % NUM_SHARDS:02x}"


def catalogue_path(name: str) -> str:
    return f"catalogue/{shard(name)}.jsonl"


def names_path(name: str) -> str:
    return f"names/{shard(name)}.json"


def write_whole(file: Path, data: bytes, *, sync: bool = True) -> bool:
    """Write a file whole or not at all; False where it says the same already."""
    try:
        if file.read_bytes() == data:
            return False
    except OSError:
        file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, [data], sync=sync)
    return True


def sync_all() -> None:
    """What was written without `sync` reaches the disk, where the system can be told to."""
    if hasattr(os, "sync"):
        os.sync()
