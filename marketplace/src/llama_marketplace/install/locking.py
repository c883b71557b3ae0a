"""The lock file of a set of plugins: what `sync` installs elsewhere, by digest and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from llama_core.durable import replace_file
from llama_core.errors import ConfigError, plain
from llama_core.tables import read_table
from llama_marketplace.install.generations import Dist

FILE_NAME = "marketplace.lock"
VERSION = 1
MAX_BYTES = 4 << 20
_HEADING = "# Plugins and what they need. Written by `llama marketplace lock`; do not edit.\n"
_TEXTS = ("name", "version", "filename", "sha256")
_MAYBE = ("plugin", "publisher", "source", "url")


def write(file: Path, dists: Sequence[Dist]) -> None:
    """Write the set; the file is replaced whole or not at all."""
    import json

    text = f"{_HEADING}version = {VERSION}\n"
    for each in sorted(dists, key=lambda dist: dist.name):
        text += "\n[[dist]]\n"
        for key in (*_TEXTS, *_MAYBE):
            if getattr(each, key) is not None:
                text += f"{key} = {json.dumps(getattr(each, key))}\n"
        text += f"size = {each.size}\n"
    try:
        replace_file(file, [text.encode()])
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def read(file: Path) -> list[Dist]:
    """The set that a lock file names."""
    table = read_table(file, max_bytes=MAX_BYTES, error=ConfigError)
    entries = table.get("dist", [])
    if table.get("version") != VERSION or not isinstance(entries, list):
        raise ConfigError(
            f"{file} is not a lock file of version {VERSION}",
            remedy="Write it where the plugins are installed: llama marketplace lock",
        )
    dists = [_dist(each, f"{file}: dist {number}") for number, each in enumerate(entries, 1)]
    names = [each.name for each in dists]
    if len(set(names)) != len(names):
        raise ConfigError(f"{file} names a distribution twice")
    return dists


def _dist(entry: Any, where: str) -> Dist:
    if not isinstance(entry, dict) or set(entry) - {*_TEXTS, *_MAYBE, "size"}:
        raise ConfigError(f"{where} is not a table of {', '.join((*_TEXTS, 'size'))}")
    for key in (*_TEXTS, *_MAYBE):
        value = entry.get(key, None if key in _MAYBE else ...)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{where}: {key} must be a text")
    size, digest = entry.get("size"), entry["sha256"]
    if not isinstance(size, int) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ConfigError(f"{where}: size or sha256 is not one")
    try:
        name, version, *_ = parse_wheel_filename(entry["filename"])
        own = (str(name), str(version))
    except (InvalidWheelFilename, InvalidVersion):
        own = ("", "")
    if own != (entry["name"], entry["version"]) or "/" in entry["filename"]:
        raise ConfigError(f"{where}: '{plain(entry['filename'])}' is not a wheel of that version")
    return Dist(**entry)
