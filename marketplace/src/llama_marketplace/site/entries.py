"""What is to be shown: each plugin once, from the first index that has it, with all its versions.

An index is a folder that its operator holds, or one that the user trusts; of the latter, every
record is verified under its publisher's own signature as it is read. Knows nothing of pages.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from packaging.version import Version

from llama_marketplace.errors import RecordRefused, Untrusted
from llama_marketplace.index.record import Record
from llama_marketplace.sources import Source, owner

WITHDRAWN = ("yanked", "quarantined")


@dataclass(frozen=True, slots=True)
class Home:
    """An index, and how to trust it."""

    name: str
    root: str
    url: str | None = None  # not known of a folder, unless its operator says it

    @property
    def trust(self) -> str | None:
        """The line by which a reader of the site trusts the index."""
        if self.url is None:
            return None
        return shlex.join(
            ["llama", "marketplace", "indexes", "add", self.name, self.url, "--root", self.root]
        )

    def place(self, path: str) -> str | None:
        """The address of a file of the index."""
        return None if self.url is None else f"{self.url.rstrip('/')}/{path}"


@dataclass(frozen=True, slots=True)
class Tried:
    """What the suites found with one version of the core."""

    core: str
    date: date  # of the last of them
    passed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin."""

    home: Home
    verified: bool  # its publisher, by the index
    releases: tuple[Record, ...]  # newest first

    @property
    def shown(self) -> Record:
        """The version that speaks for it: what installing takes where the machine is no matter."""
        return max(self.releases, key=lambda each: (_readiness(each), Version(each.version)))

    @property
    def install(self) -> str | None:
        """The line that installs it; None where it is not to be had."""
        shown = self.shown
        ready = _readiness(shown)
        wanted = shown.name if ready == 2 else f"{shown.name}=={shown.version}"
        return shlex.join(["llama", "marketplace", "install", wanted]) if ready else None

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What is said of the shown version's conformance, the newest core first."""
        by_core: dict[str, Tried] = {}
        for one in self.shown.conformance:
            old = by_core.get(one.core, Tried(one.core, one.date, 0, 0))
            by_core[one.core] = Tried(
                one.core,
                max(old.date, one.date),
                old.passed + one.passed,
                old.failed + one.failed,
            )
        return tuple(sorted(by_core.values(), key=lambda each: Version(each.core), reverse=True))


def _readiness(record: Record) -> int:
    if record.status.status in WITHDRAWN:
        return 0
    return 1 if Version(record.version).is_prerelease else 2


@dataclass(frozen=True, slots=True)
class Shelf:
    """The plugins of one index: whether each one's publisher is verified, and how to read it.

    `refused` are those of its names of which it says what cannot be.
    """

    home: Home
    names: Mapping[str, bool]
    read: Callable[[str], Sequence[Record]]
    refused: Mapping[str, RecordRefused] = field(default_factory=dict)
    reading: Callable[[], AbstractContextManager[None]] = nullcontext  # around all of them

    def entry(self, name: str) -> Entry:
        """One plugin, with all that was ever published of it."""
        if name in self.refused:
            raise self.refused[name]
        releases = sorted(self.read(name), key=lambda each: Version(each.version), reverse=True)
        if not releases:
            raise Untrusted(f"'{self.home.name}' lists it, and has no record of it")
        return Entry(self.home, self.names[name], tuple(releases))


def of_folder(folder: Path, url: str | None) -> Shelf:
    """An index as its operator holds it, as of its last commit."""
    from llama_marketplace.cli.operating import root_digest
    from llama_marketplace.publish.repository import Repository, current_time

    index = Repository.open(folder, current_time())
    publishers = index.publishers()
    names = {name: publishers[index.publisher_of(name)].verified for name in index.all_names()}
    home = Home(folder.resolve().name, root_digest(folder), url)
    return Shelf(home, names, index.records)


def of_source(source: Source, sources: Sequence[Source]) -> Shelf:
    """An index that is trusted: those of its names for which it may answer beside the others."""
    names: dict[str, bool] = {}
    refused: dict[str, RecordRefused] = {}
    for name, line in source.lines():
        if source not in owner(name, sources):
            continue
        try:
            names[name] = source.read(line).verified
        except RecordRefused as error:
            names[name], refused[name] = False, error
    home = Home(source.name, source.root, source.url)
    return Shelf(home, names, source.releases, refused, source.pinning)


def by_name(shelves: Iterable[Shelf]) -> Iterator[tuple[str, Shelf]]:
    """Every name once, in order; it is the first shelf's that has it."""
    first: dict[str, Shelf] = {}
    for shelf in shelves:
        for name in shelf.names:
            first.setdefault(name, shelf)
    yield from sorted(first.items(), key=lambda each: each[0])
