"""A storage keeps checkpoints and data under names: a folder here, a bucket elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from llama_core.contracts.spec import Spec


class Storage(Protocol):
    """Whole files by name. A name is either all there or not there, whatever fails.

    Names are printable parts joined by slashes, none of them empty or made of dots, without
    backslashes; any other is refused. A failure is a `LlamaError` and leaves neither a partial name
    nor a partial target.
    """

    def put(self, source: Path, name: str) -> None:
        """Store a copy durably; when this returns it survives a crash. Putting a name again
        replaces it whole."""

    def get(self, name: str, target: Path) -> None:
        """Fetch a file, checked against the digest it was stored with."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with the prefix, in order."""

    def delete(self, name: str) -> None:
        """Remove a name; removing what is not there is allowed."""


SPEC: Spec[Storage] = Spec("storage", Storage, "llama_create_storage")
