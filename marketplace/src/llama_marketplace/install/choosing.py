"""Which version of a plugin, and which of its wheels: by rule, with the reason for every other.

The newest version that fits wins; of its wheels the one made for the most particular machine that
this one is. What does not fit is said before anything is downloaded. Knows records and machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from llama_core.errors import plain
from llama_marketplace.index.record import File, Record
from llama_marketplace.install.faults import CannotResolve, DoesNotFit
from llama_marketplace.install.fitting import OUTSIDE, unfit
from llama_marketplace.install.generations import Dist
from llama_marketplace.install.machine import Machine


@dataclass(frozen=True, slots=True)
class Passed:
    """A version or a wheel that was not taken, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was taken, and what was passed over: newer versions, and other wheels of this one."""

    record: Record
    file: File
    why: str
    newer: tuple[Passed, ...] = ()
    wheels: tuple[Passed, ...] = ()


def choose(
    releases: Sequence[Record], wanted: SpecifierSet, machine: Machine, *, wheel: str | None = None
) -> Chosen:
    """The newest release within a range that fits; `wheel` takes one of its files by name."""
    newer: list[Passed] = []
    for record in sorted(releases, key=lambda each: Version(each.version), reverse=True):
        why = unfit(record, wanted, machine)
        if why is None:
            try:
                file, reason, others = choose_wheel(record, machine, wheel)
            except DoesNotFit as error:
                why = error.message
            else:
                asked = tuple(each for each in newer if each.why != OUTSIDE)
                return Chosen(record, file, reason, asked, others)
        newer.append(Passed(record.version, why))
    name = releases[0].name if releases else "the plugin"
    told = "; ".join(f"{each.name}: {each.why}" for each in newer[:6])
    more = f"; and {len(newer) - 6} more" if len(newer) > 6 else ""
    raise DoesNotFit(
        f"no version of {name}{f' {wanted}' if str(wanted) else ''} can be installed here "
        f"({machine}): {told}{more}"
    )


def choose_locked(
    dist: Dist, releases: Sequence[Record], machine: Machine, index: str
) -> tuple[Chosen, str | None]:
    """The one wheel that a lock file names, and what is to be said of it.

    Raised is why it is not to be had: whoever runs `sync` did not write the lock file, so the
    remedy is for the place where it was written.
    """
    what, again = f"{dist.filename}, which the lock file names,", "llama marketplace lock"
    update = f"Where it was written: llama marketplace update {dist.name}, then {again}"
    same = [each for each in releases if each.version == dist.version]
    found = next(((r, f) for r in same for f in r.files if f.sha256 == dist.sha256), None)
    if found is None:
        lacks = "wheel with the bytes of" if same else "such version any more:"
        trust = f"If it is another index: trust '{dist.source}' too. "
        raise CannotResolve(
            f"'{index}' has no {lacks} {dist.filename}, which the lock file names from "
            f"'{dist.source}'",
            remedy=update if dist.source == index else trust + update,
        )
    record, file = found
    status, since = record.status, f"by '{index}' since {record.status.date}"
    why = plain(status.reason or "", 200)
    if status.status == "quarantined":
        raise DoesNotFit(f"{what} is quarantined {since}: {why}", remedy=update)
    exactly = SpecifierSet(f"=={record.version}")
    against = unfit(record, exactly, machine) or wheel_unfit(file, machine)
    if against is not None:
        raise DoesNotFit(
            f"{what} {against}", remedy=f"On a machine as this one, where it fits: {again}"
        )
    chosen = choose([record], exactly, machine, wheel=file.filename)
    withdrawn = status.status != "active"
    return chosen, f"{what} is {status.status} {since}: {why}. {update}" if withdrawn else None


def choose_wheel(
    record: Record, machine: Machine, wheel: str | None = None
) -> tuple[File, str, tuple[Passed, ...]]:
    """The wheel for this machine, why, and why not each other one."""
    if wheel is not None:
        named = [each for each in record.files if each.filename == wheel]
        if not named:
            there = ", ".join(each.filename for each in record.files)
            raise DoesNotFit(f"{record.name} {record.version} has no {plain(wheel)}, but {there}")
        against = wheel_unfit(named[0], machine)
        return named[0], "asked for by name" + (f", though it {against}" if against else ""), ()
    fitting, passed = [], []
    for file in record.files:
        why = wheel_unfit(file, machine)
        if why is None:
            fitting.append(file)
        else:
            passed.append(Passed(file.filename, why))
    if not fitting:
        told = "; ".join(f"{each.name} {each.why}" for each in passed[:6])
        raise DoesNotFit(f"none of its wheels runs here: {told}")
    fitting.sort(key=lambda each: _particular(each, machine), reverse=True)
    best = fitting[0]
    passed += [Passed(each.filename, f"is less particular than {best.filename}") for each in
               fitting[1:]]  # fmt: skip
    return best, _reason(best), tuple(passed)


def wheel_unfit(file: File, machine: Machine) -> str | None:
    """Why a wheel does not run on this machine, from its tags and what its record says it needs."""
    needs = file.needs
    if needs.os and machine.os not in needs.os:
        return f"is for {', '.join(needs.os)}, and this is {machine.os}"
    if needs.arch and machine.arch not in needs.arch:
        return f"is for {', '.join(needs.arch)}, and this is {machine.arch}"
    if needs.cpu and needs.cpu not in machine.tiers:
        return f"needs a processor with {needs.cpu}, and this one goes up to {machine.tiers[-1]}"
    for name, wanted, there in (
        ("CUDA", needs.cuda, machine.cuda),
        ("ROCm", needs.rocm, machine.rocm),
    ):
        if wanted and there is None:
            return f"needs {name} {wanted}, and there is none here"
        if wanted and not SpecifierSet(wanted).contains(there or ""):
            return f"needs {name} {wanted}, and {there} is here"
    if not set(file.tags) & set(machine.tags):
        return f"is built for {', '.join(file.tags[:3])}, which this Python does not take"
    return None


def _particular(file: File, machine: Machine) -> tuple[bool, Version, bool, int, int, str]:
    """Accelerators before processors, a higher tier before a lower, then the order of tags."""
    needs = file.needs
    device = needs.cuda or needs.rocm
    least = max(
        (Version(each.version.rstrip(".*")) for each in SpecifierSet(device or "")
         if each.operator in (">=", "==", "~=", ">")),
        default=Version("0"),
    )  # fmt: skip
    tier = machine.tiers.index(needs.cpu) + 1 if needs.cpu in machine.tiers else 0
    tag = min(machine.tags.index(each) for each in file.tags if each in machine.tags)
    return bool(device), least, bool(needs.cuda), tier, -tag, file.filename


def _reason(file: File) -> str:
    needs = file.needs
    said = [f"CUDA {needs.cuda}"] if needs.cuda else []
    said += [f"ROCm {needs.rocm}"] if needs.rocm else []
    said += [f"a processor with {needs.cpu}"] if needs.cpu else []
    said += [", ".join(needs.os)] if needs.os else []
    said += [", ".join(needs.arch)] if needs.arch else []
    return f"for {' and '.join(said)}" if said else "runs anywhere that its tags allow"
