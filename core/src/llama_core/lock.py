"""The lock file: which plugins may be loaded, by version and digest of their files.

`locked` mode refuses whatever is not written here exactly. The digest covers every file that the
distribution installed and everything beside the manifest, so it is the same for the same wheel on
every machine, and a changed byte changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from llama_core.discovery import BUILTIN, Found
from llama_core.durable import replace_file
from llama_core.errors import ConfigError
from llama_core.tables import read_table

# Written by installers, different on every machine; the files they describe are hashed themselves.
_INSTALLER_FILES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
_HEADING = "# Which plugins may be loaded here. Written by `llama plugins lock`; do not edit.\n"


@dataclass(frozen=True, slots=True)
class Locked:
    """One line of the lock."""

    dist: str
    version: str
    digest: str


def digest(found: Found) -> str:
    """The SHA-256 of a plugin's installed files, by name and content."""
    total = hashlib.sha256()
    for name, path in sorted(_files(found).items()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _files(found: Found) -> dict[str, Path]:
    files: dict[str, Path] = {}
    try:
        dist = distribution(found.dist)
    except PackageNotFoundError:
        dist = None
    for each in (dist.files or ()) if dist is not None and dist.version == found.version else ():
        path = Path(str(each.locate()))
        if _counts(path) and path.is_file():
            files[each.as_posix()] = path
    if found.location is not None:
        root = found.location.parents[found.package.count(".")]
        for folder, folders, names in os.walk(found.location):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for path in (Path(folder, name) for name in names):
                if _counts(path):
                    files[path.relative_to(root).as_posix()] = path
    return files


def _counts(path: Path) -> bool:
    # A .pyc outside of __pycache__ is imported like a source, so it counts like one.
    return path.parent.name != "__pycache__" and path.name not in _INSTALLER_FILES


def write(file: Path, plugins: Iterable[Found]) -> dict[str, Locked]:
    """Lock these plugins; the file is replaced whole or not at all."""
    entries = {
        one.name: Locked(one.dist, one.version, digest(one))
        for one in plugins
        if one.name != BUILTIN and one.error is None
    }
    text = _HEADING + "version = 1\n"
    for name, entry in sorted(entries.items()):
        text += f"\n[plugins.{name}]\n"
        for key in Locked.__slots__:
            text += f"{key} = {json.dumps(getattr(entry, key))}\n"
    try:
        replace_file(file, [text.encode()])
    except OSError as error:
        raise ConfigError(f"cannot write the lock file {file}: {error.strerror}") from error
    return entries


def read(file: Path) -> dict[str, Locked]:
    """What the lock file allows."""
    if not file.is_file():
        raise ConfigError(
            f"locked mode is on, and there is no lock file {file}",
            remedy="Write it in an environment you trust: llama plugins lock",
        )
    table = read_table(file, max_bytes=1 << 20, error=ConfigError)
    plugins = table.get("plugins", {})
    if table.get("version") != 1 or not isinstance(plugins, dict):
        raise ConfigError(f"{file} is not a lock file of version 1", remedy="llama plugins lock")
    entries = {}
    for name, entry in plugins.items():
        fields = {"dist", "version", "digest"}
        if not isinstance(entry, dict) or set(entry) != fields or not _strings(entry):
            raise ConfigError(f"{file}: plugin {name!r} must have {', '.join(sorted(fields))}")
        entries[name] = Locked(**entry)
    return entries


def _strings(entry: Mapping[str, object]) -> bool:
    return all(isinstance(value, str) for value in entry.values())


def refusal(found: Found, entries: Mapping[str, Locked]) -> str | None:
    """Why locked mode keeps this plugin out, or None where it is exactly what was locked."""
    entry = entries.get(found.name)
    if entry is None:
        return "the lock file does not name it"
    if (entry.dist, entry.version) != (found.dist, found.version):
        return f"the lock file names {entry.dist} {entry.version}"
    try:
        same = entry.digest == digest(found)
    except OSError as error:
        return f"its files cannot be read: {error.strerror}: {error.filename}"
    return None if same else "its files are not the ones that were locked"
