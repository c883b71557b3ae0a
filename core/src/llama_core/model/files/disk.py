"""What a model takes on disk: a folder with all in it, a file, a GGUF file with its other parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

GGUF_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")  # stem, number, count


def disk_bytes(path: Path) -> int:
    """The sizes of its files, links followed."""
    return sum(file.stat().st_size for file in _files(path) if file.is_file())


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return path.rglob("*")
    part = GGUF_PART.fullmatch(path.name)
    if part is None:
        return [path]
    return [one for one in path.parent.iterdir() if _is_part(one.name, part)]


def _is_part(name: str, of: re.Match[str]) -> bool:
    other = GGUF_PART.fullmatch(name)
    return other is not None and other.group(1, 3) == of.group(1, 3)
