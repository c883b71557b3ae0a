"""An index as its operator holds it: records go in, and all that follows from them is written.

What follows from the records (the catalogue, the names, the pages for pip) is a pure function of
them, so that it can be made again byte for byte. Nothing of it is visible before the commit.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed, RecordRefused
from llama_marketplace.index import catalogue, names, simple
from llama_marketplace.index.layout import (
    NUM_SHARDS,
    Layout,
    catalogue_path,
    names_path,
    shard,
    write_whole,
)
from llama_marketplace.index.record import Change, Record, read, record_path, write
from llama_marketplace.publish.merging import merged
from llama_marketplace.trust.roles import MANY, Roles, Signed
from llama_marketplace.wheels import WheelRefused, metadata_of

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from llama_marketplace.trust.keys import KeyRing


log = logging.getLogger("llama_core.marketplace")


def current_time() -> datetime:
    """Now; or SOURCE_DATE_EPOCH, by which a build can be made again."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        raise IndexFailed(f"SOURCE_DATE_EPOCH='{plain(epoch)}' is no time") from None


class Repository:
    """One index on disk. Methods change it in memory; `commit` writes."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.layout = roles.layout
        self._claims: dict[str, dict[str, names.Claim]] = {}
        self._stale: set[str] = set()  # names whose line and pages must be made again
        self._new_names = False
        self._anew = False  # nothing that was derived before is kept
        self._wheels: dict[Path, Path] = {}

    @classmethod
    def create(
        cls, folder: Path, keys: Mapping[str, Iterable[Key]], now: datetime, threshold: int = 1
    ) -> Repository:
        """A new index without a publisher."""
        if folder.exists() and any(folder.iterdir()):
            raise IndexFailed(f"{folder} is not empty", remedy="Name a new folder.")
        self = cls(Roles.create(Layout(folder), now, keys, threshold))
        self.roles.set_targets("names", {names.PUBLISHERS_PATH: names.write_publishers({})})
        self._new_names = True
        return self

    @classmethod
    def open(cls, folder: Path, now: datetime) -> Repository:
        """The index in a folder."""
        return cls(Roles.open(Layout(folder), now))

    def add_publisher(
        self, name: str, keys: Iterable[Key], *, threshold: int = 1, verified: bool = False
    ) -> None:
        """Let somebody publish here. Verified: the operator knows who that is."""
        self.roles.add_publisher(name, keys, threshold)
        about = names.About(verified=verified, since=self.roles.now.date())
        data = names.write_publishers({**self.publishers(), name: about})
        names.read_publishers(data)  # a name that clients would refuse must not be written
        self.roles.set_targets("names", {names.PUBLISHERS_PATH: data})

    def publishers(self) -> dict[str, names.About]:
        return names.read_publishers(self.roles.read_target("names", names.PUBLISHERS_PATH))

    def add(self, records: Sequence[Record], wheels: Iterable[Path] = ()) -> list[str]:
        """Take records in, and wheels that lie at their files' digests; gives warnings."""
        warnings = self._claim(records)
        for record in records:
            self._put(merged(self.before(record), record))
        self._hold(records, wheels)
        return warnings

    def adopt(
        self, offered: Signed, records: Sequence[Record], wheels: Iterable[Path]
    ) -> list[str]:
        """Take in what a publisher has signed elsewhere, and verified records of it; as `add`."""
        self.roles.adopt(offered, {each.path: write(each) for each in records})
        warnings = self._claim(records)
        self._stale |= {each.name for each in records}
        self._hold(records, wheels)
        return warnings

    def _claim(self, records: Sequence[Record]) -> list[str]:
        """Whose the names are: their publisher's from now on, or it is refused; gives warnings."""
        warnings = []
        known = self.publishers()
        # Whose a plugin's name is can be anywhere: for a new name, all shards are read.
        everyone = {name: one for each in self._all_shards() for name, one in each.items()}
        register = names.Register(everyone)
        for record in records:
            if record.publisher not in known:
                raise IndexFailed(
                    f"this index knows no publisher '{record.publisher}'",
                    remedy=f"llama marketplace publishers add {record.publisher} --key FILE",
                )
            if register.check(record):
                if near := register.looks_like(record):
                    warnings.append(f"{record.name} could be taken for {', '.join(near)}")
                claim = register.add(record, self.roles.now.date())
                self._shard(record.name)[record.name] = claim
                self._new_names = True
        return warnings

    def _hold(self, records: Iterable[Record], wheels: Iterable[Path]) -> None:
        files = {file.filename: file for record in records for file in record.files}
        for wheel in wheels:
            self._wheels[self.layout.folder / files[wheel.name].path] = wheel

    def change_status(self, publisher: str, name: str, version: str, change: Change) -> Record:
        """What a publisher says of its own version: deprecated, yanked, active again."""
        record = self._record(publisher, name, version)
        record = record.model_copy(update={"history": (*record.history, change)})
        self._put(record)
        return record

    def decide(self, name: str, version: str, change: Change | None) -> None:
        """What the operator says of a version, whatever its publisher says; None takes it back."""
        claims = self._shard(name)
        claim = claims.get(name)
        if claim is None:
            raise IndexFailed(f"there is no {plain(name)} in this index")
        self._record(claim.publisher, name, version)
        decisions = {key: one for key, one in claim.decisions.items() if key != version}
        if change is not None:
            decisions[version] = change
        claims[name] = claim.model_copy(update={"decisions": decisions})
        self._stale.add(name)

    def publisher_of(self, name: str) -> str:
        """Whose a name is."""
        claim = self._shard(name).get(name)
        if claim is None:
            raise IndexFailed(f"there is no {plain(name)} in this index")
        return claim.publisher

    def records(self, name: str) -> list[Record]:
        """All versions of a name, as the index offers them."""
        claim = self._shard(name).get(name)
        if claim is None:
            return []
        start = record_path(claim.publisher, name, "")[: -len(".json")]
        paths = [
            each
            for each in self.roles.role(claim.publisher).signed.targets
            if each.startswith(start)
        ]
        found = []
        for path in sorted(paths):
            data = self.roles.read_target(claim.publisher, path)
            assert data is not None
            found.append(names.decided(read(data, source=path), claim))
        return found

    def held(self, record: Record) -> set[str]:
        """The wheels of a version that are published here already, by name."""
        there = (each for each in self.records(record.name) if each.version == record.version)
        return {file.filename for each in there for file in each.files}

    def all_names(self) -> list[str]:
        return sorted(name for each in self._all_shards() for name in each)

    def derive_all(self) -> None:
        """Make again all that follows from the records, and nothing that follows from none."""
        self._stale |= set(self.all_names())
        self._new_names = self._anew = True

    def commit(self, ring: KeyRing) -> list[str]:
        """Write and sign what changed; gives the roles that were signed."""
        for place, wheel in sorted(self._wheels.items()):
            _copy(wheel, place)
        pages = self._derive()
        signed = self.roles.commit(ring)
        for file, data in pages.items():
            write_whole(file, data, sync=len(pages) < MANY)
        if self._anew:
            self._remove_pages_except(pages)
        self._wheels.clear()
        self._stale.clear()
        self._new_names = self._anew = False
        return signed

    def _derive(self) -> dict[Path, bytes]:
        pages: dict[Path, bytes] = {}
        verified = {name for name, about in self.publishers().items() if about.verified}
        by_shard: dict[str, dict[str, bytes | None]] = {}
        if self._anew:
            by_shard = {path: {} for path in self.roles.role("catalogue").signed.targets}
        for name in sorted(self._stale):
            records = self.records(name)
            line = None
            if records:
                known = records[0].publisher in verified
                line = catalogue.write_line(catalogue.summarize(records, verified=known))
            by_shard.setdefault(catalogue_path(name), {})[name] = line
            beside = self._metadata(records)
            pages |= {self.layout.folder / f"{at}{simple.METADATA}": beside[at] for at in beside}
            digests = {at: hashlib.sha256(data).hexdigest() for at, data in beside.items()}
            for file, data in simple.project_pages(name, records, digests).items():
                pages[self.layout.simple / name / file] = data
        lines = {path: self._shard_lines(path, new) for path, new in by_shard.items()}
        self.roles.set_targets("catalogue", lines)
        claims = {names_path(name): names.write_claims(self._shard(name)) for name in self._stale}
        self.roles.set_targets("names", claims)
        if self._new_names:
            for file, data in simple.root_pages(self.all_names()).items():
                pages[self.layout.simple / file] = data
        return pages

    def _metadata(self, records: Iterable[Record]) -> dict[str, bytes]:
        """The METADATA of the wheels that lie here, by their path."""
        found = {}
        for file in (file for record in records for file in record.files if file.url is None):
            wheel = self.layout.folder / file.path
            beside = wheel.with_name(wheel.name + simple.METADATA)
            if beside.is_file() and not self._anew:
                found[file.path] = beside.read_bytes()
            elif wheel.is_file():
                try:
                    found[file.path] = metadata_of(wheel)
                except WheelRefused as error:  # it is not what was published
                    log.warning("no metadata is given of %s: %s", wheel, error)
        return found

    def _remove_pages_except(self, pages: Mapping[Path, bytes]) -> None:
        for file in self.layout.simple.glob(f"*/{simple.HTML}"):
            if file not in pages:
                for name in (simple.HTML, simple.JSON):
                    file.with_name(name).unlink(missing_ok=True)

    def _shard_lines(self, path: str, new: Mapping[str, bytes | None]) -> bytes | None:
        lines: dict[str, bytes | None] = {}
        before = None if self._anew else self.roles.read_target("catalogue", path)
        for line in (before or b"").splitlines(keepends=True):
            try:
                lines[catalogue.name_in(line)] = line
            except RecordRefused as error:  # nobody could read it
                log.warning("left out of %s: %s", path, error)
        lines |= new
        return b"".join(line for _, line in sorted(lines.items()) if line) or None

    def _put(self, record: Record) -> None:
        self.roles.set_targets(record.publisher, {record.path: write(record)})
        self._stale.add(record.name)

    def before(self, record: Record) -> Record | None:
        """What the index has of a version."""
        data = self.roles.read_target(record.publisher, record.path)
        return None if data is None else read(data, source=record.path)

    def _record(self, publisher: str, name: str, version: str) -> Record:
        path = record_path(publisher, name, version)
        data = self.roles.read_target(publisher, path)
        if data is None:
            raise IndexFailed(f"{publisher} has published no {plain(name)} {plain(version)} here")
        return read(data, source=path)

    def _shard(self, name: str) -> dict[str, names.Claim]:
        key = shard(name)
        if key not in self._claims:
            path = names_path(name)
            self._claims[key] = names.read_claims(self.roles.read_target("names", path))
        return self._claims[key]

    def _all_shards(self) -> Iterable[dict[str, names.Claim]]:
        for number in range(NUM_SHARDS):
            key = f"{number:02x}"
            if key not in self._claims:
                data = self.roles.read_target("names", f"names/{key}.json")
                self._claims[key] = names.read_claims(data)
            yield self._claims[key]


def _copy(wheel: Path, place: Path) -> None:
    """Put a wheel at its digest, if it still has it."""
    data = wheel.read_bytes()
    if hashlib.sha256(data).hexdigest() != place.parent.name:
        raise IndexFailed(f"{wheel} has changed since it was inspected", remedy="Publish it again.")
    write_whole(place, data)
