"""Reading a wheel whole without importing it: what it is, or why it is refused.

`examine` is for any wheel; `inspect` is for a plugin's, and holds its manifest to what is there.
Both read every byte once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llama_core.errors import LlamaError
from llama_core.manifest import FILE_NAME, Manifest, parse
from llama_core.tables import MAX_BYTES as MAX_MANIFEST_BYTES
from llama_core.tables import parse_table
from llama_marketplace.wheels import contents as rules
from llama_marketplace.wheels import metadata
from llama_marketplace.wheels.archive import Archive, Content
from llama_marketplace.wheels.refusal import WheelRefused, shown

MAX_OPTIONS_BYTES = 1 << 20
_NATIVE_ENDS = (".so", ".pyd", ".abi3.so")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that may be unpacked."""

    path: Path
    sha256: str
    size: int
    name: str  # of the distribution, canonical
    version: str
    tags: tuple[str, ...]
    requires_python: str
    requires: tuple[Requirement, ...]
    tops: tuple[str, ...]  # what could be imported of it
    info: str  # the folder of its metadata
    groups: tuple[str, ...]  # of its entry points
    files: Mapping[str, Content]

    @property
    def filename(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class Inspected(Wheel):
    """A plugin's wheel."""

    plugin: str  # its entry point's name
    package: str
    manifest: Manifest
    native: bool
    scripts: tuple[str, ...]
    summary: str
    readme: str
    licence: str
    homepage: str

    @property
    def requires_core(self) -> str:
        """The range of llama-core that it needs."""
        ours = (each for each in self.requires if canonicalize_name(each.name) == "llama-core")
        return next(str(each.specifier) for each in ours if "extra" not in str(each.marker or ""))


def examine(path: Path) -> Wheel:
    """A wheel of anything: its archive, its own claims and the rules for all wheels."""
    with Archive(path) as archive:
        return Wheel(**_examine(archive)[0])


def inspect(path: Path) -> Inspected:
    """A plugin's wheel: all that `examine` asks, and the rules for plugins."""
    with Archive(path) as archive:
        facts, about = _examine(archive)
        wheel, files = archive.wheel, facts["files"]
        plugin, package = rules.plugin_entry(wheel, about)
        rules.check_plugin(wheel, about, package, files)
        manifest = _manifest(archive, plugin, package)
        _check_claims(archive, package, manifest)
        scripts = rules.check_permissions(wheel, about, manifest.permissions, files)
    core = [each for each in about.requires if canonicalize_name(each.name) == "llama-core"]
    if not any("extra" not in str(each.marker or "") for each in core):
        raise WheelRefused(
            wheel, "no_core", "it does not say which llama-core it needs",
            remedy='Add "llama-core>=0.1" to its dependencies.',
        )  # fmt: skip
    fields = about.fields
    licence = fields.get("license_expression") or fields.get("license") or ""
    return Inspected(
        **facts,
        plugin=plugin,
        package=package,
        manifest=manifest,
        native=any(rules.is_native(name, one) for name, one in files.items()),
        scripts=scripts,
        summary=fields.get("summary") or manifest.summary,
        readme=fields.get("description", ""),
        licence=licence.splitlines()[0] if licence else "",
        homepage=_homepage(fields),
    )


def metadata_of(path: Path) -> bytes:
    """A wheel's METADATA, byte for byte."""
    with Archive(path) as archive:
        info = metadata.read(archive).info
        return archive.read(f"{info}/METADATA", metadata.MAX_METADATA_BYTES)


def _examine(archive: Archive) -> tuple[dict[str, Any], metadata.Metadata]:
    about = metadata.read(archive)
    files = {name: archive.content(name) for name in archive.names}
    metadata.check_record(archive, about.info, files)
    rules.check_any(archive.wheel, about, files)
    with archive.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {
        "path": archive.path,
        "sha256": digest,
        "size": archive.path.stat().st_size,
        "name": about.name,
        "version": about.version,
        "tags": about.tags,
        "requires_python": about.requires_python,
        "requires": about.requires,
        "tops": tuple(sorted(rules.tops(about, files))),
        "info": about.info,
        "groups": tuple(about.entry_points),
        "files": files,
    }
    return facts, about


def _manifest(archive: Archive, plugin: str, package: str) -> Manifest:
    path = f"{package.replace('.', '/')}/{FILE_NAME}"
    if path not in archive.names:
        why = f"it has no manifest {shown(path)}"
        remedy = "Ship plugin.toml inside the package."
        raise WheelRefused(archive.wheel, "manifest_missing", why, remedy=remedy)
    try:
        table = parse_table(archive.read(path, MAX_MANIFEST_BYTES), path)
        return parse(table, source=path, entry_point=plugin)
    except WheelRefused:
        raise
    except LlamaError as error:
        why = str(error.message)
        raise WheelRefused(archive.wheel, "manifest_invalid", why, remedy=error.remedy) from error


def _check_claims(archive: Archive, package: str, manifest: Manifest) -> None:
    """What the manifest points to is there, and is the plugin's own."""
    if not _module(archive, package):
        why = f"its package {shown(package)} has no __init__.py"
        raise WheelRefused(archive.wheel, "manifest_lies", why)
    module = manifest.module or package
    if module != package and not module.startswith(f"{package}."):
        why = f"its manifest says module = {shown(module)}, which lies outside of {package}"
        raise WheelRefused(archive.wheel, "manifest_lies", why)
    if not _module(archive, module):
        why = f"its manifest says module = {shown(module)}, and there is no such module in it"
        raise WheelRefused(archive.wheel, "manifest_lies", why)
    for one in manifest.provides:
        if isinstance(one.options, str):
            place, _, resource = one.options.partition(":")
            path = f"{place.replace('.', '/')}/{resource}"
            if path not in archive.names:
                why = f"{one} has its options in {shown(one.options)}, which is not in the wheel"
                raise WheelRefused(archive.wheel, "manifest_lies", why)


def _module(archive: Archive, dotted: str) -> bool:
    path = dotted.replace(".", "/")
    if f"{path}.py" in archive.names or f"{path}/__init__.py" in archive.names:
        return True
    return any(
        name.startswith(f"{path}.") and name.endswith(_NATIVE_ENDS) and "/" not in name[len(path) :]
        for name in archive.names
    )


def _homepage(fields: Mapping[str, Any]) -> str:
    urls = {key.lower(): value for key, value in (fields.get("project_urls") or {}).items()}
    named = [urls[key] for key in ("homepage", "home", "repository", "source") if key in urls]
    found = fields.get("home_page") or (named[0] if named else "")
    return found if found.startswith(("https://", "http://")) else ""
