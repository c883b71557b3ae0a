"""Remembering what discovery found, so that starting with a thousand plugins costs milliseconds.

An entry holds for one search path and one version of the core. It is valid while every folder on
the path has the modification time it had (installing and uninstalling change it) and every manifest
has its size and time. Anything out of the ordinary, a broken plugin included, is not remembered but
looked at again. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core import __version__
from llama_core.durable import replace_file

if TYPE_CHECKING:
    from llama_core.discovery import Found

# A folder changed so shortly before the look that a later change could bear the same time.
RACY_SECONDS = 2.0


def cache_folder() -> Path:
    """Where entries lie: the user's cache directory."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("llama-core", appauthor=False), "discovered")


def discover_cached(folder: Path | None = None) -> list[Found]:
    """What `discovery.discover()` gives, without looking where nothing has changed."""
    from llama_core.discovery import discover

    path = [os.path.abspath(each) for each in sys.path]
    key = hashlib.sha256("\0".join([__version__, sys.version, *path]).encode()).hexdigest()
    file = (folder or cache_folder()) / f"{key[:32]}.json"
    places = _stamps(path)
    remembered = _read(file, places)
    if remembered is not None:
        return remembered
    found = discover()
    stamps = _stamps([str(one.manifest_path) for one in found if one.manifest_path])
    racy = time.time_ns() - max([0, *(each[1] for each in places)]) < RACY_SECONDS * 1e9
    if not racy and all(one.error is None for one in found):
        _write(file, {"places": places, "manifests": stamps, "found": [*map(_plain, found)]})
    return found


def _stamps(paths: list[str]) -> list[list[Any]]:
    """Path, time and size of each file or folder; a folder's size says nothing and is left out."""
    stamps = []
    for path in dict.fromkeys(paths):
        try:
            facts = os.stat(path)
        except OSError:
            continue  # a path entry that does not exist; when it appears, the list changes
        is_file = path.endswith(".toml")
        stamps.append([path, facts.st_mtime_ns, facts.st_size if is_file else 0])
    return stamps


def _plain(one: Found) -> dict[str, Any]:
    return asdict(replace(one, location=None)) | {"location": str(one.location)}


def _read(file: Path, places: list[list[Any]]) -> list[Found] | None:
    from llama_core.discovery import Found

    try:
        entry = json.loads(file.read_bytes())
        if entry["places"] != places:
            return None
        if entry["manifests"] != _stamps([each[0] for each in entry["manifests"]]):
            return None
        return [
            Found(**{**one, "location": Path(one["location"]), "notes": tuple(one["notes"])})
            for one in entry["found"]
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # no entry, or one that an interrupted writer or another version left


def _write(file: Path, entry: dict[str, Any]) -> None:
    """Replace the entry whole. A cache that cannot be written costs time, not correctness."""
    try:
        text = json.dumps(entry)  # a manifest with a TOML date has no JSON: not remembered
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, [text.encode()], sync=False)
    except (OSError, TypeError):
        return
