"""Files that are there whole or not at all, also when the disk fills up or the power fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path


def replace_file(
    path: Path,
    content: Iterable[bytes | memoryview],
    *,
    private: bool = False,
    sync: bool = True,
    check: Callable[[Path], object] = lambda draft: None,
) -> None:
    """Write beside the file, then take its name in one step.

    `private` makes it readable by its owner alone. `check` may look at the draft and refuse it by
    raising. Without `sync` a reader sees old or new, but a power cut may still lose the new.
    """
    # A name of its own: two writers at once, or a draft that a killed one left, are no trouble.
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(draft, flags, 0o600 if private else 0o666), "wb") as file:
            for chunk in content:
                file.write(chunk)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        check(draft)
        draft.replace(path)
        if sync:
            sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in a folder survives a crash."""
    if os.name == "nt":
        return  # a folder cannot be opened there; NTFS keeps its own journal of names
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
