"""Whether a version is for this machine and to be had at all, and if not, why.

Asked of every version that a search shows, so it imports nothing that takes its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_core.errors import plain
from llama_marketplace.index.catalogue import Offered
from llama_marketplace.index.ranges import contains, is_prerelease

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from llama_marketplace.index.record import Record
    from llama_marketplace.install.machine import Machine

OUTSIDE = "outside of what was asked for"


def unfit(record: Record | Offered, wanted: SpecifierSet | None, machine: Machine) -> str | None:
    """Why a version is not for this machine or not to be had, its wheels aside; None: it is.

    `wanted` is the range that was asked for, if one was.
    """
    status = record.status if isinstance(record, Offered) else record.status.status
    reason = record.reason if isinstance(record, Offered) else record.status.reason
    exact = wanted is not None and any(each.operator in ("==", "===") for each in wanted)
    if status == "quarantined":
        return f"quarantined: {plain(reason or '')}"
    if status == "yanked" and not exact:
        return f"yanked: {plain(reason or '')}"
    if wanted is not None and not wanted.contains(record.version, prereleases=True):
        return OUTSIDE
    if is_prerelease(record.version) and not exact and not (wanted and wanted.prereleases):
        return "a pre-release, which is taken when asked for exactly"
    if not contains(record.requires_core, machine.core):
        return f"needs llama-core {record.requires_core}, and {machine.core} is here"
    if not contains(record.requires_python, machine.python):
        return f"needs Python {record.requires_python}, and {machine.python} is here"
    return _elsewhere(record, machine) if isinstance(record, Offered) else None


def _elsewhere(offered: Offered, machine: Machine) -> str | None:
    """Of the catalogue's short words on a version: whether none of its wheels can be for here."""
    places = {f"{machine.os}/{machine.arch}", f"{machine.os}/any"}
    if offered.platforms and not places & set(offered.platforms):
        return f"runs on {', '.join(offered.platforms)}, and this is {machine.os}/{machine.arch}"
    if offered.devices and not any(_has(each, machine) for each in offered.devices):
        return f"needs {' or '.join(offered.devices)}, and this machine has none"
    return None


def _has(device: str, machine: Machine) -> bool:
    name = device[:4]
    there = {"cuda": lambda: machine.cuda, "rocm": lambda: machine.rocm}.get(name)
    version = there() if there else None
    return version is not None and contains(device[4:], version)
