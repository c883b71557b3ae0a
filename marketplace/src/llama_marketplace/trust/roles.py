"""The signed half of an index on disk: TUF metadata, changed in memory and committed at once.

Top-level roles are root, targets, snapshot and timestamp. The role targets delegates flatly: to
`catalogue`, which the index signs for search; to `names`, which says whose a name is and what was
quarantined; and to one role for each publisher, under the publisher's own name. Knows nothing of
what records mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed
from llama_marketplace.index.layout import Layout, sync_all, write_whole

if TYPE_CHECKING:
    from securesystemslib.signer import Key
    from tuf.api.metadata import Metadata

    from llama_marketplace.trust.keys import KeyRing

TOP = ("root", "targets", "snapshot", "timestamp")
OWN = ("catalogue", "names")
RESERVED = frozenset({*TOP, *OWN, "records", "index"})
# For how long a signature is believed. The timestamp's is how long a mirror can hold back news.
DAYS = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 7, "catalogue": 90, "names": 365}
PUBLISHER_DAYS = 365
MANY = 100  # files, from which on they are not synced to the disk one by one


@dataclass(frozen=True, slots=True)
class Signed:
    """What a publisher has signed on a machine of its own."""

    publisher: str
    metadata: Metadata[Any]


class Roles:
    """The metadata of one index. Changes are kept until `commit` signs and writes them."""

    def __init__(self, layout: Layout, now: datetime) -> None:
        self.layout = layout
        self.now = now.replace(microsecond=0)
        self._loaded: dict[str, Metadata[Any]] = {}
        self._changed: set[str] = set()
        self._unwritten: set[str] = set()  # in their first version still
        self._adopted: set[str] = set()  # signed elsewhere, and written as they are
        self._contents: dict[Path, bytes] = {}

    @classmethod
    def create(
        cls, layout: Layout, now: datetime, keys: Mapping[str, Iterable[Key]], threshold: int = 1
    ) -> Roles:
        """An index of nothing, each of whose roles is signed by these keys."""
        from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, Targets, Timestamp

        self = cls(layout, now)
        kinds = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}
        for name, kind in kinds.items():
            self._loaded[name] = Metadata(kind(version=1, expires=self._expiry(name)))
        targets = self._loaded["targets"].signed
        targets.delegations = Delegations({}, {})
        snapshot = self._loaded["snapshot"].signed
        for name in TOP:
            for key in keys[name]:
                self._loaded["root"].signed.add_key(key, name)
        self._loaded["root"].signed.roles["root"].threshold = threshold
        self._loaded["root"].signed.roles["targets"].threshold = threshold
        for name in OWN:
            self._delegate(name, list(keys[name]), 1, [f"{name}/*"])
            self._begin(name)
        snapshot.meta.pop("targets.json", None)
        self._changed |= {*TOP, *OWN}
        self._unwritten |= set(TOP)
        return self

    @classmethod
    def open(cls, layout: Layout, now: datetime) -> Roles:
        """The index in a folder, as its timestamp has it."""
        self = cls(layout, now)
        self._loaded["timestamp"] = self._read(layout.metadata / "timestamp.json")
        meta = self._loaded["timestamp"].signed.snapshot_meta
        self._loaded["snapshot"] = self._read(layout.metadata / f"{meta.version}.snapshot.json")
        version = max(
            (int(file.name.split(".")[0]) for file in layout.metadata.glob("*.root.json")),
            default=0,
        )
        self._loaded["root"] = self._read(layout.metadata / f"{version}.root.json")
        return self

    def role(self, name: str) -> Metadata[Any]:
        """One role's metadata, read when it is first asked for; a new publisher's is empty."""
        if name not in self._loaded:
            written = self._loaded["snapshot"].signed.meta.get(f"{name}.json")
            if written is None:
                self._role_of(name)
                self._begin(name)
            else:
                file = self.layout.metadata / f"{written.version}.{name}.json"
                self._loaded[name] = self._read(file)
        return self._loaded[name]

    @property
    def publishers(self) -> list[str]:
        return [name for name in self._delegations.roles if name not in OWN]

    def add_publisher(self, name: str, keys: Iterable[Key], threshold: int = 1) -> None:
        """Let a publisher sign for what lies under its own name, and for nothing else."""
        if name in RESERVED:
            raise IndexFailed(f"no publisher can be called '{name}', a word of the index itself")
        if name in self._delegations.roles:
            raise IndexFailed(f"there is a publisher '{name}' already")
        self._delegate(name, list(keys), threshold, [f"records/{name}/*/*"])

    def set_keys(self, name: str, keys: Iterable[Key], threshold: int, ring: KeyRing) -> None:
        """Give a role other keys: from the next commit, what the old ones sign is worth nothing."""
        keys = list(keys)
        if not 0 < threshold <= len(keys):
            raise IndexFailed(f"{threshold} of {len(keys)} keys can never sign for '{plain(name)}'")
        parent, role = self._role_of(name)
        for keyid in list(role.keyids):
            parent.signed.revoke_key(keyid, name)
        for key in keys:
            parent.signed.add_key(key, name)
        role.threshold = threshold
        self._changed.add("root" if name in TOP else "targets")
        if name in (*TOP, *OWN) or self.can_sign(name, ring):
            self._changed.add(name)  # or else the publisher has to sign, before anyone believes it

    def set_targets(self, name: str, contents: Mapping[str, bytes | None]) -> bool:
        """What a role signs for: a path's new content, or None to sign for it no longer."""
        from tuf.api.metadata import TargetFile

        targets = self.role(name).signed.targets
        changed = False
        for path, data in contents.items():
            if data is None:
                changed |= targets.pop(path, None) is not None
                continue
            digest = hashlib.sha256(data).hexdigest()
            known = targets.get(path)
            if known is not None and known.hashes == {"sha256": digest}:
                continue
            if known is not None:
                self._contents.pop(self.layout.target(path, known.hashes["sha256"]), None)
            targets[path] = TargetFile(len(data), {"sha256": digest}, path)
            self._contents[self.layout.target(path, digest)] = data
            changed = True
        if changed:
            self._changed.add(name)
        return changed

    def verify(self, offered: Signed) -> None:
        """Refuse a publisher's word unless it is the next after what is here, under its keys."""
        from tuf.api.exceptions import RepositoryError

        name, metadata = offered.publisher, offered.metadata
        if name in (*TOP, *OWN):
            raise IndexFailed(f"'{plain(name)}' is no publisher")
        parent, _ = self._role_of(name)
        try:
            parent.signed.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise IndexFailed(
                f"this is not signed by the keys that '{name}' has in this index: {error}",
                remedy="If it has new ones: llama marketplace keys rotate",
            ) from None
        here = self.role(name).signed.version - (name in self._unwritten)
        if metadata.signed.version != here + 1:
            raise IndexFailed(
                f"this is signed as version {metadata.signed.version} of what '{name}' says, and "
                f"{here + 1} would be next: something else was taken in since, or this was",
                remedy="Its publisher offers it again.",
            )
        if not self.now < metadata.signed.expires <= self._expiry(name) + timedelta(days=1):
            raise IndexFailed(
                f"this is signed until {metadata.signed.expires:%Y-%m-%d}, and what is here is "
                f"believed for {PUBLISHER_DAYS} days from now at most"
            )

    def adopt(self, offered: Signed, contents: Mapping[str, bytes]) -> None:
        """Take a publisher's own word instead of signing in its name, with what is new of it."""
        self.verify(offered)
        targets = offered.metadata.signed.targets
        for path, data in contents.items():
            digest = targets[path].hashes["sha256"]
            self._contents[self.layout.target(path, digest)] = data
        self._loaded[offered.publisher] = offered.metadata
        self._adopted.add(offered.publisher)

    def read_target(self, name: str, path: str) -> bytes | None:
        """The content that a role signs for now, or None."""
        found = self.role(name).signed.targets.get(path)
        if found is None:
            return None
        file = self.layout.target(path, found.hashes["sha256"])
        data = self._contents.get(file) or _bytes(file)
        if hashlib.sha256(data).hexdigest() != found.hashes["sha256"]:
            raise IndexFailed(f"{file} is not what was signed for")
        return data

    def touch(self, *names: str) -> None:
        """Sign these again, for as long as their kind is believed."""
        self._changed |= set(names)

    def expiring(self, within: timedelta) -> dict[str, datetime]:
        """The roles that will not be believed for much longer."""
        written = self._loaded["snapshot"].signed.meta
        names = [*TOP, *(name for name in self._delegations.roles if f"{name}.json" in written)]
        ends = {name: self.role(name).signed.expires for name in names}
        return {name: end for name, end in ends.items() if end - self.now < within}

    def can_sign(self, name: str, ring: KeyRing) -> bool:
        """Whether enough keys of a role are at hand."""
        _, role = self._role_of(name)
        return bool(sum(keyid in ring for keyid in role.keyids) >= role.threshold)

    def commit(self, ring: KeyRing) -> list[str]:
        """Sign and write what changed; the timestamp comes last, and makes it visible at once."""
        from tuf.api.metadata import MetaFile

        if not self._changed and not self._adopted and not self._contents:
            return []
        snapshot, timestamp = self._loaded["snapshot"].signed, self._loaded["timestamp"].signed
        written = sorted((self._changed | self._adopted) - {"root", "snapshot", "timestamp"})
        files: dict[Path, bytes] = {}
        for name in written:
            signed = self.role(name).signed
            signed.version += name not in self._unwritten | self._adopted
            snapshot.meta[f"{name}.json"] = MetaFile(signed.version)
        order = list(written)
        if written or "snapshot" in self._changed:
            order.append("snapshot")
        if "root" in self._changed:
            order.append("root")  # seen as soon as it is there, so it comes as late as it may
        order.append("timestamp")
        for name in order:
            signed = self.role(name).signed
            if name not in written:
                signed.version += name not in self._unwritten
            if name not in self._adopted:
                signed.expires = self._expiry(name)
            if name == "timestamp":
                timestamp.snapshot_meta = MetaFile(snapshot.version)
            file = "timestamp.json" if name == "timestamp" else f"{signed.version}.{name}.json"
            files[self.layout.metadata / file] = self._sign(name, ring)
        few, adopted = len(self._contents) < MANY, set(self._adopted)
        for path, data in self._contents.items():
            write_whole(path, data, sync=few)
        if not few:
            sync_all()
        for path, data in files.items():
            write_whole(path, data)
        for kept in (self._changed, self._unwritten, self._adopted, self._contents):
            kept.clear()
        return [name for name in order if name not in adopted]

    def _sign(self, name: str, ring: KeyRing) -> bytes:
        from tuf.api.serialization.json import JSONSerializer

        metadata = self.role(name)
        if name in self._adopted:
            return metadata.to_bytes(JSONSerializer(compact=True))
        root = self.role("root").signed
        _, role = self._role_of(name)
        metadata.signatures.clear()
        wanted = [role]
        if name == "root" and root.version > 1:
            before = self._read(self.layout.metadata / f"{root.version - 1}.root.json").signed
            wanted.append(before.roles["root"])  # who may say that these are the new keys
        signers = {
            each.public_key.keyid: each
            for one in wanted
            for each in ring.for_role(name, one.keyids, one.threshold)
        }
        for _, signer in sorted(signers.items()):
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def _delegate(self, name: str, keys: list[Key], threshold: int, paths: list[str]) -> None:
        from tuf.api.metadata import DelegatedRole

        if not 0 < threshold <= len(keys):
            raise IndexFailed(f"{threshold} of {len(keys)} keys can never sign for '{name}'")
        role = DelegatedRole(name, [], threshold, terminating=True, paths=paths)
        self._delegations.roles[name] = role
        for key in keys:
            self.role("targets").signed.add_key(key, name)
        self._changed.add("targets")

    def _begin(self, name: str) -> None:
        from tuf.api.metadata import Metadata, Targets

        self._loaded[name] = Metadata(Targets(version=1, expires=self._expiry(name)))
        self._unwritten.add(name)

    def _role_of(self, name: str) -> tuple[Metadata[Any], Any]:
        """Who says which keys a role has, and what it says."""
        parent = self.role("root") if name in TOP else self.role("targets")
        try:
            return parent, parent.signed.get_delegated_role(name)
        except ValueError:
            raise IndexFailed(f"this index has no role '{plain(name)}'") from None

    @property
    def _delegations(self) -> Any:
        return self.role("targets").signed.delegations

    def _expiry(self, name: str) -> datetime:
        return self.now + timedelta(days=DAYS.get(name, PUBLISHER_DAYS))

    @staticmethod
    def _read(file: Path) -> Metadata[Any]:
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        try:
            return Metadata.from_bytes(_bytes(file))
        except RepositoryError as error:
            raise IndexFailed(f"{file} is not metadata of an index: {error}") from None


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise IndexFailed(
            f"cannot read {file}: {error.strerror}", remedy="Is this the folder of an index?"
        ) from error
