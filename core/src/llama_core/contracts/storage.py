"""A storage keeps checkpoints and data under names: a folder here, a bucket elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from llama_core.contracts.spec import Spec


class Storage(Protocol):
    """Whole files by name, names with slashes. A name is either all there or not there."""

    def put(self, source: Path, name: str) -> None:
        """Store a file durably; when this returns it survives a crash."""

    def get(self, name: str, target: Path) -> None:
        """Fetch a file, checked against the digest it was stored with."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with the prefix, in order."""

    def delete(self, name: str) -> None:
        """Remove a name; removing what is not there is allowed."""


SPEC: Spec[Storage] = Spec("storage", Storage, "llama_create_storage")
