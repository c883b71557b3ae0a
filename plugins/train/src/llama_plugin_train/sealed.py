"""JSON documents that say their own digest, so that a changed one is known from itself alone.

A sealed document has one form only: whatever was changed in its file, a space even, is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError

MAX_BYTES = 1 << 30


class DamagedError(LlamaError):
    """A file is not what was written: changed, cut short or of another kind."""

    code = "file_damaged"


def seal(body: Mapping[str, Any]) -> bytes:
    """The document with its digest; raises ValueError where the body is not JSON."""
    document = {"body": body, "sha256": digest_of(body)}
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode() + b"\n"


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """The body, or an error that names where it came from."""
    try:
        document = json.loads(data)
        body = document["body"]
        whole = isinstance(body, dict) and seal(body) == data
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DamagedError(f"{where} is damaged: it does not match its own digest")
    return dict(body)


def read_sealed(path: Path) -> dict[str, Any]:
    """The body of a sealed file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DamagedError(f"{path} is damaged: no such file is larger than {MAX_BYTES} bytes")
        return unseal(path.read_bytes(), str(path))
    except OSError as error:
        raise LlamaError(f"cannot read {path}: {error.strerror}") from error


def digest_of(body: object) -> str:
    """The SHA-256 of a JSON value, the same whatever the order of its keys."""
    text = json.dumps(body, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
