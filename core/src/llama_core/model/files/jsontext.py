"""JSON from files nobody vouches for: bounded in bytes, in values and in depth before it is parsed.

A parsed value takes up to some hundred bytes, and so does a key; the number of both, not the number
of bytes, is what bounds memory.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llama_core.model.files.faults import ModelFileError

MAX_VALUES = 600_000  # at most about 100 bytes each: 60 MB
MAX_BYTES = 1 << 27


def parse_object(
    data: bytes, path: Path, *, unique: bool = False, file_bytes: int = 0
) -> dict[str, Any]:
    """A JSON object; with `unique`, no object in it may have a key twice. The larger the file that
    it is only a part of, the more it may hold."""
    fault = _too_much(data, max(file_bytes, len(data)))
    if fault is None:
        try:
            hook = _unique if unique else None
            value = json.loads(data.decode("utf-8"), object_pairs_hook=hook)
        except UnicodeDecodeError as error:
            fault = f"not UTF-8 at byte {error.start}"
        except RecursionError:
            fault = "JSON nested too deeply"
        except ValueError as error:
            fault = f"not JSON: {error}"
        else:
            if isinstance(value, dict):
                return value
            fault = f"expected a JSON object, found {_KIND.get(type(value), 'something else')}"
    raise ModelFileError(path, [fault])


def read_object(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file."""
    return parse_object(read_bytes(path, max_bytes), path)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A whole file, refused where it is larger than such a file ever is."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, max_bytes) + 1)  # the buffer is made before it is read
    except OSError as error:
        raise ModelFileError(path, [error.strerror or str(error)]) from error
    if len(data) > max_bytes:
        raise ModelFileError(path, [f"larger than the {max_bytes} bytes allowed for this file"])
    return data


def read_text(path: Path, max_bytes: int = 1 << 20) -> str:
    """A whole text file."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(path, [f"not UTF-8 at byte {error.start}"]) from error


def _too_much(data: bytes, file_bytes: int) -> str | None:
    values = 1 + sum(data.count(mark) for mark in (b",", b":", b"[", b"{"))
    if values > MAX_VALUES + file_bytes // 128:
        return f"up to {values} JSON values and keys, more than such a file ever holds"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:100]!r} is there twice")
    return found


_KIND = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean",
         type(None): "null"}  # fmt: skip
