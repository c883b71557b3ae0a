"""From a plan to a generation in force, in steps of which only the last one shows.

Fetch, inspect, unpack, describe, try in a child process, put in place, switch. Whatever fails, or
whoever kills it, what was in force stays so until the switch and is whole.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from llama_core import overlay
from llama_core.errors import plain
from llama_marketplace.index.record import Record
from llama_marketplace.install.base import Base, Need, Offer, reach
from llama_marketplace.install.faults import Damaged, InstallFailed
from llama_marketplace.install.generations import Dist, Generation, Generations
from llama_marketplace.install.packages import Packages
from llama_marketplace.install.planning import Pick, Plan
from llama_marketplace.install.smoke import Trial
from llama_marketplace.install.syncing import sync_tree
from llama_marketplace.install.unpacking import take_over, unpack
from llama_marketplace.install.verifying import missing
from llama_marketplace.wheels import Inspected, Wheel, examine, inspect

Progress = Callable[[int], None]


def carry_out(
    plan: Plan,
    generations: Generations,
    packages: Packages,
    base: Base,
    progress: Progress = lambda num_bytes: None,
    trial: Trial | None = None,
) -> Generation:
    """Make the plan's generation and put it in force; `trial` may have been begun before."""
    with generations.locked():
        if generations.current() != plan.before:
            raise InstallFailed(
                "what is installed has changed since this was planned", remedy="Run it again."
            )
        try:
            with generations.staging() as place:
                new = _make(plan, generations, packages, base, place, progress, trial)
        except OSError as error:
            raise InstallFailed(
                f"cannot write {error.filename or generations.home}: {error.strerror or error}",
                remedy="What was installed before is untouched.",
            ) from error
        generations.prune()
    return new


def roll_back(generations: Generations, to: int | None = None) -> Generation:
    """Put an earlier generation in force, or any by its number; needs no network."""
    with generations.locked():
        number = generations.current().parent if to is None else to
        there = [overlay.NONE, *generations.numbers()]
        listed = ", ".join(map(str, there))
        if to is None and generations.current().number == overlay.NONE:
            raise InstallFailed(
                f"nothing is installed, so there is nothing to go back to; there are: {listed}",
                remedy="llama marketplace rollback --to NUMBER",
            )
        if number not in there:
            raise InstallFailed(
                f"there is no generation {number}; there are: {listed}",
                remedy="llama marketplace list --generations",
            )
        found = generations.read(number)
        lost = missing(found, generations.folder(number) / overlay.PACKAGES)
        if lost is not None:
            raise Damaged(
                f"generation {number} is not whole: {plain(lost)} is gone or was cut",
                remedy="Go to another one: llama marketplace list --generations",
            )
        generations.switch(number)
    return found


def _make(
    plan: Plan,
    generations: Generations,
    packages: Packages,
    base: Base,
    place: Path,
    progress: Progress,
    trial: Trial | None,
) -> Generation:
    downloads = place.with_name("fetched")  # on the same disk, which has room for it or has not
    dists = _lay_out(plan, generations, packages, base, place, downloads, progress)
    _check_whole(dists, base)
    new = generations.describe(place, plan.before.number, dists)
    with ThreadPoolExecutor(1) as aside:
        synced = aside.submit(sync_tree, place)  # the disk is at work while the child is
        if tried := _to_try(plan, dists):
            with trial or Trial() as child:
                child.run(place, tried)
        synced.result()
    generations.put_in_place(place)
    generations.switch(new.number)
    return new


def _lay_out(
    plan: Plan,
    generations: Generations,
    packages: Packages,
    base: Base,
    place: Path,
    downloads: Path,
    progress: Progress,
) -> list[Dist]:
    site = place / overlay.PACKAGES
    dists = [_plugin(pick, downloads, site, base, progress) for pick in plan.picks]
    found = packages.download(plan.packages, downloads / "packages") if plan.packages else {}
    for each in plan.packages:
        wheel = _held_to(found[each.name], each.sha256)
        progress(wheel.size)
        if wheel.name != each.name or wheel.version != each.version:
            raise InstallFailed(f"{wheel.filename} is not {each.name} {each.version}")
        dists.append(_described(wheel, _unpacked(wheel, site, base), url=each.url))
    old = generations.folder(plan.before.number) / overlay.PACKAGES
    for kept in plan.kept:
        take_over(kept.files, old, site)
        dists.append(kept)
    return dists


def _plugin(pick: Pick, downloads: Path, site: Path, base: Base, progress: Progress) -> Dist:
    chosen = pick.chosen
    path = pick.source.fetch(chosen.file, downloads / chosen.record.name, progress)
    wheel = inspect(path)
    if wheel.sha256 != chosen.file.sha256:
        raise InstallFailed(f"{wheel.filename} is not the file that was signed for")
    _check_record(wheel, chosen.record)
    dist = _described(wheel, _unpacked(wheel, site, base), url=chosen.file.url)
    return replace(
        dist, plugin=wheel.plugin, publisher=chosen.record.publisher, source=pick.source.name
    )


def _unpacked(wheel: Wheel, site: Path, base: Base) -> dict[str, tuple[str, int]]:
    python = platform.python_version()
    if not SpecifierSet(wheel.requires_python).contains(python, prereleases=True):
        raise InstallFailed(
            f"{wheel.filename} needs Python {wheel.requires_python}, and {python} is here"
        )
    for top in wheel.tops:
        if base.has_module(top):
            raise InstallFailed(
                f"{wheel.filename} brings a module called '{top}', which this environment has "
                "already and would go on using"
            )
    return unpack(wheel, site)


def _described(wheel: Wheel, files: dict[str, tuple[str, int]], url: str | None) -> Dist:
    return Dist(
        name=wheel.name,
        version=wheel.version,
        filename=wheel.filename,
        sha256=wheel.sha256,
        size=wheel.size,
        requires=tuple(map(str, wheel.requires)),
        url=url,
        files=files,
    )


def _held_to(path: Path, sha256: str) -> Wheel:
    wheel = examine(path)
    if wheel.sha256 != sha256:
        raise InstallFailed(f"{wheel.filename} is not the file that was resolved")
    if "llama_core" in wheel.groups:
        raise InstallFailed(
            f"{wheel.filename} is a plugin, and no index that you trust signs for it",
            remedy=f"If you trust it all the same: pip install {wheel.name}",
        )
    return wheel


def _check_record(wheel: Inspected, record: Record) -> None:
    """What was signed, shown and resolved is what is about to be installed."""
    told = {
        "name": (record.name, wheel.name),
        "version": (record.version, wheel.version),
        "plugin": (record.plugin, wheel.plugin),
        "package": (record.package, wheel.package),
        "permissions": (sorted(record.permissions), sorted(wheel.manifest.permissions)),
        "requirements": (
            sorted(str(Requirement(each)) for each in record.requires),
            sorted(
                str(each) for each in wheel.requires if canonicalize_name(each.name) != "llama-core"
            ),
        ),
        "capabilities": (
            sorted((each.kind, each.name, each.api) for each in record.provides),
            sorted((each.kind, each.name, each.api) for each in wheel.manifest.provides),
        ),
    }
    for what, (said, found) in told.items():
        if said != found:
            raise InstallFailed(
                f"{wheel.filename} is not what its record says: its {what} are {found}, and the "
                f"record says {said}",
                remedy="Tell its publisher.",
            )


def _check_whole(dists: Sequence[Dist], base: Base) -> None:
    """With the metadata of the wheels themselves: nothing is missing, nothing contradicts."""
    offers = {d.name: Offer(d.version, tuple(map(Requirement, d.requires))) for d in dists}
    found = reach([Need("you", Requirement(each)) for each in offers], base, offers)
    if found.missing:
        first = found.missing[0]
        raise InstallFailed(
            f"{first.by} needs {first.requirement}, which is neither here nor in the plan"
        )


def _to_try(plan: Plan, dists: Sequence[Dist]) -> list[str]:
    """The plugins that are new; all of them where something that they may share has changed."""
    shared = plan.packages or any(not each.plugin for each in plan.gone)
    names = {each.chosen.record.name for each in plan.picks}
    return sorted(str(d.plugin) for d in dists if d.plugin and (shared or d.name in names))
