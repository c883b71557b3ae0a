"""A plugin's project as it lies in its author's folder: what it is called, and its manifest.

Reads `pyproject.toml` and `plugin.toml`; runs nothing of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.discovery import GROUP
from llama_core.errors import LlamaError
from llama_core.manifest import FILE_NAME, Manifest, parse
from llama_core.tables import read_table


@dataclass(frozen=True, slots=True)
class Project:
    """One plugin on its way to a wheel."""

    folder: Path
    dist: str
    plugin: str
    manifest: Manifest

    @property
    def tests(self) -> Path:
        """Where its tests are."""
        return self.folder / "tests"


def read(folder: Path) -> Project:
    """The project, or the first thing that is wrong with it."""
    file = folder / "pyproject.toml"
    if not file.is_file():
        raise LlamaError(
            f"{folder} has no pyproject.toml",
            remedy="Name a plugin's folder or wheel: llama plugins check PATH",
        )
    table = read_table(file).get("project", {})
    entries = _table(_table(table, "entry-points"), GROUP)
    if len(entries) != 1:
        names = ", ".join(map(str, entries)) or "none"
        raise LlamaError(
            f"{file} must name one plugin under [project.entry-points.{GROUP}], and names {names}",
            remedy=f'Write `name = "your_package"` under [project.entry-points.{GROUP}].',
        )
    name, package = next(iter(entries.items()))
    return Project(folder, str(table.get("name", "")), name, _manifest(folder, name, package))


def _manifest(folder: Path, name: str, package: object) -> Manifest:
    inner = Path(*str(package).split("."), FILE_NAME)
    for place in (folder / "src" / inner, folder / inner):
        if place.is_file():
            return parse(dict(read_table(place)), source=str(place), entry_point=name)
    raise LlamaError(
        f"there is no {inner} in {folder / 'src'} or {folder}",
        remedy="The entry point's package holds the manifest.",
    )


def _table(table: Any, key: str) -> dict[str, Any]:
    found = table.get(key, {}) if isinstance(table, dict) else {}
    return found if isinstance(found, dict) else {}
