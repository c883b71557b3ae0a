"""Changing whom the user trusts: the tables of indexes in the user's own `llama.toml`.

Keeps what else its owner wrote there, comments and all. What is written reads back, or is not
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_core.config import user_config_file
from llama_core.durable import replace_file
from llama_core.errors import ConfigError, did_you_mean, plain
from llama_marketplace.sources import SECTION, Source, configured, from_entry


def proposed(name: str, url: str, root: str, namespaces: Sequence[str]) -> Source:
    """The index as it would be trusted; nothing is written yet."""
    if name in {each.name for each in configured()}:
        raise ConfigError(
            f"there is an index '{plain(name)}' already",
            remedy=f"llama marketplace indexes remove {plain(name)}",
        )
    entry: dict[str, Any] = {"name": name, "url": url, "root": root}
    if namespaces:
        entry["namespaces"] = list(namespaces)
    return from_entry(entry, "the index")


def write(source: Source, *, first: bool = False) -> Path:
    """Trust it, last of all or first."""
    import tomlkit

    document, file = _read()
    section = document.setdefault(SECTION, tomlkit.table(is_super_table=True))
    before = list(section.get("indexes", []))
    table = tomlkit.table()
    for key, value in source.entry().items():
        table[key] = value
    entries = tomlkit.aot()
    for each in [table, *before] if first else [*before, table]:
        entries.append(each)
    section["indexes"] = entries
    _replace(file, tomlkit.dumps(document))
    return file


def remove(name: str) -> Path:
    """Trust it no longer."""
    import tomlkit

    names = [each.name for each in configured()]
    if name not in names:
        raise ConfigError(f"there is no index '{plain(name)}'", remedy=did_you_mean(name, names))
    document, file = _read()
    section: Any = document[SECTION]
    entries = tomlkit.aot()
    for each in section["indexes"]:
        if each.get("name") != name:
            entries.append(each)
    section["indexes"] = entries
    if not entries:
        del section["indexes"]
    _replace(file, tomlkit.dumps(document))
    return file


def _read() -> tuple[Any, Path]:
    import tomlkit

    file = user_config_file()
    return tomlkit.parse(file.read_text("utf-8")) if file.is_file() else tomlkit.document(), file


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file.resolve(), [text.encode()], check=configured)  # a link stays one
