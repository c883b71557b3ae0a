"""What this environment holds by itself, and what plugins need beside it.

Reads metadata of installed distributions. What is here is never moved: it stands before a
generation on the path, so that a second version of it would not be found anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import PathFinder
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llama_core import overlay
from llama_marketplace.install.faults import CannotResolve


@dataclass(frozen=True, slots=True)
class Offer:
    """A distribution that is, or would be, there: enough of it to follow what it needs."""

    version: str
    requires: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """A requirement, and who has it."""

    by: str
    requirement: Requirement

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


class Base:
    """The distributions of this environment without a generation; the first on the path counts."""

    def __init__(self) -> None:
        self.path = overlay.base_path()

    @cached_property
    def _found(self) -> Mapping[str, tuple[str, Path]]:
        """Name to version and folder of metadata, by the folders' names: nothing is read."""
        found: dict[str, tuple[str, Path]] = {}
        for place in self.path:
            with suppress(OSError), os.scandir(place or ".") as entries:
                for each in entries:
                    stem, _, kind = each.name.rpartition(".")
                    name, _, version = stem.partition("-")
                    if kind in ("dist-info", "egg-info"):
                        version = version.split("-py")[0] or Distribution.at(each.path).version
                        found.setdefault(canonicalize_name(name), (version, Path(each.path)))
        return found

    def versions(self) -> dict[str, str]:
        return {name: version for name, (version, _) in self._found.items()}

    def offer(self, name: str) -> Offer | None:
        if name not in self._found:
            return None
        version, folder = self._found[name]
        requires = Distribution.at(folder).requires or ()
        return Offer(version, tuple(map(Requirement, requires)))

    def has_module(self, top: str) -> bool:
        """Whether a name could be imported without a generation; asking imports nothing."""
        path = [each for each in self.path if each and each != os.getcwd()]
        return top.isidentifier() and PathFinder.find_spec(top, path) is not None


@dataclass(slots=True)
class Reach:
    """What a set of distributions comes to, once everything that they need was followed."""

    missing: list[Need] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # of the distributions beside the base


def reach(roots: Iterable[Need], base: Base, beside: Mapping[str, Offer]) -> Reach:
    """Follow needs through the base and what lies beside it; a contradiction is an error."""
    result = Reach()
    seen: set[tuple[str, str]] = set()
    todo = list(roots)
    while todo:
        need = todo.pop()
        here = base.offer(need.name)
        offer = here or beside.get(need.name)
        if offer is None:
            result.missing.append(need)
            continue
        if not need.requirement.specifier.contains(offer.version, prereleases=True):
            raise _contradiction(need, offer.version, in_base=here is not None)
        if here is None:
            result.used.add(need.name)
        for extra in ("", *sorted(need.requirement.extras)):
            if (need.name, extra) not in seen and (here is None or extra):
                seen.add((need.name, extra))
                todo += needs(need.name, offer.requires, extra)
    return result


def needs(by: str, requires: Iterable[Requirement], extra: str = "") -> Iterator[Need]:
    """The requirements that count on this machine, of a distribution or of one of its extras."""
    for each in requires:
        if each.marker is None:
            counts = not extra
        elif extra:
            counts = each.marker.evaluate({"extra": extra}) and not each.marker.evaluate(
                {"extra": ""}
            )
        else:
            counts = each.marker.evaluate({"extra": ""})
        if counts:
            yield Need(by, each)


def _contradiction(need: Need, version: str, *, in_base: bool) -> CannotResolve:
    wanted = f"{need.by} needs {need.requirement.name}{need.requirement.specifier}"
    if not in_base:
        return CannotResolve(f"{wanted}, and {version} is chosen for the other plugins")
    return CannotResolve(
        f"{wanted}, and {version} is in this environment, which is not changed from here",
        remedy="If nothing else here depends on that version: "
        f"pip install '{need.requirement.name}{need.requirement.specifier}'",
    )
