"""Reading a TOML file that may be hostile: bounded, UTF-8 only, and errors that name the place."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError, ManifestError

MAX_BYTES = 64 << 10


def read_table(
    path: Path, *, max_bytes: int = MAX_BYTES, error: type[LlamaError] = ManifestError
) -> dict[str, Any]:
    """The file's table; whatever is wrong with it is raised as `error`."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from cause
    if len(data) > max_bytes:
        raise error(f"{path} is larger than {max_bytes >> 10} KiB, the most such a file may be")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as cause:
        raise error(
            f"{path} is not UTF-8: byte {cause.start} is {data[cause.start]:#04x}",
            remedy="Save it as UTF-8.",
        ) from cause
    except RecursionError as cause:
        raise error(f"{path} is nested too deeply") from cause
    except tomllib.TOMLDecodeError as cause:
        raise error(f"{path} is not valid TOML: {cause}") from cause
