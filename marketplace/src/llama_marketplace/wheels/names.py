"""Whether names out of an archive may become files, on any system this one is copied to.

Pure functions of texts. A name is a path with `/` between parts that are in normal form; two names
that some file system would take for one are one too many.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_NAME_BYTES = 400
MAX_PART_BYTES = 240
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.I)


def fault(name: str) -> tuple[str, str] | None:
    """What is wrong with one name, as a rule's short name and a half sentence; None: nothing."""
    if "\\" in name or "\0" in name or not name.isprintable():
        return "odd_name", "has a backslash or a character that cannot be printed"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "absolute_name", "starts at a root, where it must be a path inside the wheel"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "parent_name", "leads out of its folder by '..'"
    if "" in parts or "." in parts:
        return "odd_name", "is not a normal path: it has an empty part or a '.'"
    if unicodedata.normalize("NFC", name) != name:
        return "odd_name", "is not in Unicode's composed form (NFC)"
    for part in parts:
        if part[-1] in ". " or set('<>:"|?*') & set(part):
            return "odd_name", "cannot be a file on Windows"
        if _RESERVED.fullmatch(part):
            return "odd_name", "is a device on Windows"
        if len(part.encode()) > MAX_PART_BYTES:
            return "long_name", f"has a part of more than {MAX_PART_BYTES} bytes"
    if len(name.encode()) > MAX_NAME_BYTES:
        return "long_name", f"has more than {MAX_NAME_BYTES} bytes"
    return None


def collision(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that a file system may take for one; a folder and a file of one name."""
    seen: dict[str, str] = {}  # as a careless file system sees it -> as it was written
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parts = name.removesuffix("/").split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            key = unicodedata.normalize("NFKC", path).casefold()
            if seen.setdefault(key, path) != path:
                return seen[key], path
            is_file = depth == len(parts) and not name.endswith("/")
            if path in files or (is_file and path in folders):
                return path, name
            (files if is_file else folders).add(path)
    return None
