"""The one error of a file: everything that is wrong with it, listed together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from llama_core.errors import LlamaError

_SHOWN = 50
_REMEDY = "Take the model anew, whole, from where it came."


class ModelFileError(LlamaError):
    """A model's file cannot be used. `faults` holds all that was found, in the file's order."""

    code = "model_file_invalid"

    def __init__(self, path: Path, faults: Iterable[str], *, remedy: str | None = None) -> None:
        self.path = path
        self.faults = tuple(faults)
        shown = "; ".join(self.faults[:_SHOWN])
        if len(self.faults) > _SHOWN:
            shown += f"; and {len(self.faults) - _SHOWN} more"
        many = f"{len(self.faults)} faults: " if len(self.faults) > 1 else ""
        super().__init__(f"cannot read {path}: {many}{shown}", remedy=remedy or _REMEDY)


class FileChanged(LlamaError):
    """A file was written to while it was mapped: what is read from it can no longer be trusted."""

    code = "model_file_changed"


def quoted(name: str) -> str:
    """A name out of a file, short and printable, for use in a message."""
    text = name if len(name) <= 120 else f"{name[:100]}… ({len(name)} characters)"
    return repr(text)
