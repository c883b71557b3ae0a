"""Reading a TOML file that may be hostile: bounded, UTF-8 only, and errors that name the place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError, ManifestError

MAX_BYTES = 64 << 10
MAX_DEPTH = 32

# tomllib takes time by the square of a key's parts: 64 KiB of `a.a.a…` would take a minute.
_TOO_DOTTED = re.compile(r"(?<![\w\"'-])(?:[\w\"'-]++[ \t]*+\.[ \t]*+){" + f"{MAX_DEPTH}}}")


def read_table(
    path: Path, *, max_bytes: int = MAX_BYTES, error: type[LlamaError] = ManifestError
) -> dict[str, Any]:
    """The file's table; whatever is wrong with it is raised as `error`."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from cause
    return parse_table(data, str(path), max_bytes=max_bytes, error=error)


def parse_table(
    data: bytes, path: str, *, max_bytes: int = MAX_BYTES, error: type[LlamaError] = ManifestError
) -> dict[str, Any]:
    """The same of bytes that lie elsewhere, in an archive say; `path` is what errors call them."""
    if len(data) > max_bytes:
        raise error(f"{path} is larger than {max_bytes >> 10} KiB, the most such a file may be")
    try:
        text = data.decode("utf-8-sig")  # some editors open a file with a byte order mark
        if _TOO_DOTTED.search(text):
            raise RecursionError
        table = tomllib.loads(text)
        _check_depth(table)
    except UnicodeDecodeError as cause:
        raise error(
            f"{path} is not UTF-8: byte {cause.start} is {cause.object[cause.start]:#04x}",
            remedy="Save it as UTF-8.",
        ) from cause
    except RecursionError as cause:
        raise error(f"{path} is nested too deeply, more than {MAX_DEPTH} levels") from cause
    except ValueError as cause:  # TOMLDecodeError, and int()'s own bound on digits
        raise error(f"{path} is not valid TOML: {cause}") from cause
    return table


def _check_depth(table: dict[str, Any]) -> None:
    level: list[Any] = [table]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise RecursionError
