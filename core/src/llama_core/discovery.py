"""Finding installed plugins by their metadata, without importing any of them.

Knows entry points, distributions and where a package's `plugin.toml` lies; knows nothing of policy,
contracts or activation. What is wrong with one plugin is kept beside it and never hides another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import LlamaError, ManifestError, plain
from llama_core.tables import read_table

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUP = "llama_core"
BUILTIN = "builtin"

_PACKAGE = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
_HEADER = re.compile(r"^(Name|Version): *(.+?) *$", re.MULTILINE)
_NEEDS_CORE = re.compile(
    r"^Requires-Dist: *(llama[-_.]core(?![-_.]*[a-z0-9]).*?) *$", re.MULTILINE | re.IGNORECASE
)
_PLUGIN = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MANIFEST = "plugin.toml"


@dataclass(frozen=True, slots=True)
class Found:
    """One entry point of the group, as it lies on disk."""

    name: str  # of the entry point, and so of the plugin
    package: str
    dist: str
    version: str
    location: Path | None = None  # the folder that holds the manifest
    table: Mapping[str, Any] | None = None  # the manifest's TOML, not validated
    needs_core: str | None = None  # the distribution's own requirement, as in "llama-core>=0.1"
    notes: tuple[str, ...] = ()
    error: LlamaError | None = None

    @property
    def manifest_path(self) -> Path | None:
        return self.location / _MANIFEST if self.location else None


@dataclass(slots=True)
class _Scan:
    found: dict[str, Found] = field(default_factory=dict)
    seen: dict[str, tuple[str, str]] = field(default_factory=dict)  # dist -> version, place


def builtin() -> Found:
    """The core's own capabilities: a manifest like any other, known without metadata."""
    from llama_core import __version__

    location = Path(__file__).parent / "builtin"
    return _read(Found(BUILTIN, "llama_core.builtin", "llama-core", __version__, location))


def discover(path: Iterable[str] | None = None) -> list[Found]:
    """Every installed plugin, the builtin one first, then by name; `path` as in `sys.path`."""
    places = None if path is None else [str(place) for place in path]
    scan = _Scan()
    from importlib.metadata import distributions  # 25 ms, and not needed where all is remembered

    for dist in distributions() if places is None else distributions(path=places):
        try:
            text = dist.read_text("entry_points.txt")
            if text and f"[{GROUP}]" in text.replace(" ", ""):
                _take(dist, scan, places)
        except (OSError, ValueError, TypeError) as error:
            _leave_out(dist, scan, error)
    return [builtin(), *(scan.found[name] for name in sorted(scan.found))]


def _leave_out(dist: Distribution, scan: _Scan, error: Exception) -> None:
    """Metadata that cannot be read: kept by its folder's name, if it may hold a plugin at all."""
    folder = Path(str(getattr(dist, "_path", "unknown")))
    try:
        mentions = GROUP.encode() in (folder / "entry_points.txt").read_bytes()
    except OSError:
        mentions = False
    if mentions:
        why = f"the metadata in {folder} cannot be read: {plain(error)}"
        key = plain(folder.stem)
        scan.found[key] = Found(
            key, "?", key, "?", error=ManifestError(why, remedy="Reinstall it.")
        )


def _take(dist: Distribution, scan: _Scan, places: list[str] | None) -> None:
    metadata = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
    # A distribution's headers end at the first empty line; below is its README.
    header = metadata.split("\n\n", 1)[0]
    facts = dict(_HEADER.findall(header))
    folder = Path(str(getattr(dist, "_path", "unknown"))).stem.split("-")[0]
    name, version = plain(facts.get("Name", folder)), plain(facts.get("Version", "0"))
    place = os.path.realpath(str(dist.locate_file("")))
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in scan.seen:
        _note_shadowed(scan, key, version, place)
        return
    scan.seen[key] = (version, place)
    # What an extra needs says nothing of what is installed.
    core = next((each for each in _NEEDS_CORE.findall(header) if "extra" not in each), None)
    for entry in dist.entry_points.select(group=GROUP):
        one = Found(entry.name, entry.value, key, version, needs_core=core)
        if not _PLUGIN.fullmatch(entry.name):
            name = f"{plain(entry.name)} ({key})"
            bad = ManifestError(
                f"{key} has an entry point '{plain(entry.name)}', which no plugin can be called",
                remedy="A plugin's name is small letters, digits and hyphens.",
            )
            scan.found[name] = replace(one, name=name, package=plain(entry.value), error=bad)
            continue
        one = _locate(one, dist, places)
        if entry.name == BUILTIN:
            name = f"{BUILTIN} ({key})"
            taken = f"{key} claims the name {BUILTIN!r}, which belongs to llama-core itself"
            error = ManifestError(taken, remedy=f"pip uninstall {key}")
            scan.found[name] = replace(one, name=name, error=error)
        elif entry.name in scan.found:
            _settle(scan, one)
        else:
            scan.found[entry.name] = one


def _note_shadowed(scan: _Scan, key: str, version: str, place: str) -> None:
    used, where = scan.seen[key]
    if place == where and version == used:
        return  # the same folder twice on the path
    note = f"also installed as {version} in {place}; {used} in {where} comes first and is used"
    for name, one in scan.found.items():
        if one.dist == key:
            scan.found[name] = replace(one, notes=(*one.notes, note))


def _settle(scan: _Scan, new: Found) -> None:
    """Two distributions claim one plugin name: the one named after the plugin keeps it."""
    old = scan.found[new.name]
    by_rule = sorted((old, new), key=lambda one: (one.dist != f"llama-plugin-{one.name}", one.dist))
    winner, loser = by_rule
    note = f"{loser.dist} {loser.version} claims the same name and is left out"
    scan.found[new.name] = replace(winner, notes=(*winner.notes, note))
    error = ManifestError(
        f"{loser.dist} claims the plugin name {loser.name!r}, which {winner.dist} has",
        remedy=f"Uninstall one of them: pip uninstall {loser.dist}",
    )
    name = f"{loser.name} ({loser.dist})"  # the plugin's own name is the winner's
    scan.found[name] = replace(loser, name=name, error=error)


def _locate(one: Found, dist: Distribution, places: list[str] | None) -> Found:
    if not _PACKAGE.match(one.package):
        return replace(
            one,
            error=ManifestError(
                f"the entry point of {one.dist} is '{plain(one.package)}', not the name of a "
                "package",
                remedy=f'Write `{one.name} = "your_package"` under [project.entry-points.{GROUP}].',
            ),
        )
    parts = one.package.split(".")
    beside = Path(str(dist.locate_file("/".join(parts))))
    if (beside / _MANIFEST).is_file():
        return _read(replace(one, location=beside))
    # Installed in place (editable): ask the import system where the package is. Asking for a
    # top-level name imports nothing, asking for a dotted one would.
    try:
        spec = find_spec(parts[0]) if places is None else PathFinder.find_spec(parts[0], places)
    except (ImportError, ValueError) as error:
        spec = None
        why = f": {error}"
    else:
        why = ""
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        location = Path(folder, *parts[1:])
        if (location / _MANIFEST).is_file():
            return _read(replace(one, location=location))
    if spec is None and not beside.is_dir():
        message = (
            f"the entry point of {one.dist} leads to {one.package!r}, which is not installed{why}"
        )
        remedy = f"Reinstall it: pip install --force-reinstall {one.dist}"
    else:
        message = f"{one.dist} has no {_MANIFEST} in its package {one.package!r}"
        remedy = "Its author must ship the manifest as package data."
    return replace(one, error=ManifestError(message, remedy=remedy))


def _read(one: Found) -> Found:
    assert one.manifest_path is not None
    try:
        return replace(one, table=read_table(one.manifest_path))
    except LlamaError as error:
        return replace(one, error=error)
