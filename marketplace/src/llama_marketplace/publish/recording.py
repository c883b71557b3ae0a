"""From wheels to a record: what is read off them, and what the suites found.

The wheels of one version must say the same; they may differ in what they run on. Nothing of a
wheel is imported here, its tests run in a child process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from packaging.tags import sys_tags
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from llama_core import __version__ as core_version
from llama_core.errors import LlamaError, plain
from llama_marketplace.errors import RecordRefused
from llama_marketplace.index.record import MAX_README_BYTES, Record
from llama_marketplace.wheels import Inspected

_SYSTEMS = {
    "linux": "linux",
    "manylinux": "linux",
    "musllinux": "linux",
    "macosx": "macos",
    "win": "windows",
}
_MACHINES = ("x86_64", "aarch64", "arm64", "amd64", "universal2")
_SAME = {"arm64": "aarch64", "amd64": "x86_64"}


def by_version(wheels: Iterable[Inspected]) -> list[list[Inspected]]:
    """The wheels of one version together."""
    groups: dict[tuple[str, str], list[Inspected]] = {}
    for each in sorted(wheels, key=lambda one: one.filename):
        groups.setdefault((each.name, each.version), []).append(each)
    return list(groups.values())


def record_of(
    wheels: Sequence[Inspected],
    *,
    publisher: str,
    now: datetime,
    needs: Mapping[str, Mapping[str, str]],
    wheels_at: str | None = None,
    conformance: Sequence[Mapping[str, Any]] = (),
) -> Record:
    """The record of one version. `needs` says, by file name, which device a wheel is for."""
    first = wheels[0]
    for other in wheels[1:]:
        _check_same(first, other)
    names = {each.filename for each in wheels}
    if unknown := set(needs) - names:
        raise LlamaError(f"there is no wheel {plain(sorted(unknown)[0])} among those published")
    ours = [each for each in first.requires if canonicalize_name(each.name) != "llama-core"]
    table = {
        "schema": 1,
        "name": first.name,
        "version": first.version,
        "plugin": first.plugin,
        "package": first.package,
        "publisher": publisher,
        "summary": first.summary,
        "readme": first.readme.encode()[:MAX_README_BYTES].decode("utf-8", "ignore"),
        "licence": first.licence or None,
        "homepage": first.homepage or None,
        "requires_core": first.requires_core,
        "requires_python": str(first.requires_python or ""),
        "requires": [str(each) for each in ours],
        "provides": [
            one.model_dump(include={"kind", "name", "api", "summary", "needs", "combines"})
            for one in first.manifest.provides
        ],
        "listens": first.manifest.listens,
        "permissions": first.manifest.permissions,
        "files": [_file(each, needs.get(each.filename, {}), wheels_at) for each in wheels],
        "conformance": list(conformance),
        "published": now,
        "history": [{"status": "active", "date": now.date()}],
    }
    try:
        return Record.model_validate(table)
    except ValidationError as error:
        one = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(plain(part) for part in one["loc"])
        raise RecordRefused(f"{first.filename} makes no record: {where}: {one['msg']}") from None


def runs_here(wheel: Inspected) -> bool:
    """Whether this machine could install a wheel, and so try it."""
    here = {str(tag) for tag in sys_tags()}
    return any(tag in here for tag in wheel.tags)


def projects(suites: Iterable[Path]) -> dict[str, tuple[Path, Path]]:
    """By the distribution's name: the project that a file of tests lies in, and the file."""
    from llama_marketplace.author.project import read

    found: dict[str, tuple[Path, Path]] = {}
    for file in map(Path.resolve, suites):
        folders = (each for each in file.parents if (each / "pyproject.toml").is_file())
        folder = next(folders, None)
        if folder is None:
            raise LlamaError(
                f"{file} lies in no project, so whose tests they are cannot be told",
                remedy="Name a file below a folder with a pyproject.toml.",
            )
        found[canonicalize_name(read(folder).dist)] = (folder, file)
    return found


def try_out(
    wheel: Inspected, now: datetime, tests: tuple[Path, Path] | None = None
) -> list[dict[str, Any]]:
    """Run the suites of all that a wheel provides; an error names every rule that was broken.

    `tests` are a project and some of its tests that have the suites; bare ones are written else.
    """
    from llama_marketplace.author.conformance import conformance

    with tempfile.TemporaryDirectory(prefix="llama-publish-") as place:
        outcome = conformance(wheel.path, wheel.manifest, Path(place), *(tests or ()))
    faults = list(outcome.failed)
    for each in outcome.verdicts:
        what = f"{each.kind} '{each.name}'"
        faults += [f"{what}: {fault}" for fault in each.failed]
        if each.untried:
            faults.append(f"{what}: not all of its rules were tried")
    if faults:
        raise LlamaError(
            f"{wheel.filename} does not conform: {plain('; '.join(faults), 2000)}",
            remedy="Run `llama plugins check` in its project for all of it; a suite that must be "
            "told more is given with --suite.",
        )
    return [
        {
            "core": core_version,
            "date": now.date(),
            "suite": f"{each.kind} {each.name}",
            "passed": each.passed,
            "failed": 0,
        }
        for each in outcome.verdicts
    ]


def _file(wheel: Inspected, needs: Mapping[str, str], wheels_at: str | None) -> dict[str, Any]:
    systems, machines = _platforms(wheel.tags)
    return {
        "filename": wheel.filename,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "url": f"{wheels_at.rstrip('/')}/{wheel.filename}" if wheels_at else None,
        "tags": wheel.tags,
        "needs": {"os": systems, "arch": machines, **needs},
    }


def _platforms(tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """What the tags of a wheel say of systems and processors, in the words of manifests."""
    systems: set[str] = set()
    machines: set[str] = set()
    for tag in tags:
        platform = tag.split("-", 2)[2]
        if platform == "any":
            return [], []
        systems |= {name for start, name in _SYSTEMS.items() if platform.startswith(start)}
        machines |= {_SAME.get(one, one) for one in _MACHINES if platform.endswith(one)}
    if "universal2" in machines:
        machines = machines - {"universal2"} | {"x86_64", "aarch64"}
    return sorted(systems), sorted(machines)


def _check_same(first: Inspected, other: Inspected) -> None:
    for word in ("plugin", "package", "manifest", "requires_python", "summary", "licence"):
        if getattr(first, word) != getattr(other, word):
            raise LlamaError(
                f"{first.filename} and {other.filename} are one version and differ in {word}",
                remedy="Build all wheels of a version from one source.",
            )
    if {str(each) for each in first.requires} != {str(each) for each in other.requires}:
        raise LlamaError(f"{first.filename} and {other.filename} do not need the same packages")
