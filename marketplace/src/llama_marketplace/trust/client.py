"""The reader of one index: believes its pinned root and what follows from it by signatures.

python-tuf's client does the verifying; here are its bounds, its place on disk, and the words in
which each attack is refused. What was verified once can be read again without a network. Knows
paths and bytes, not what records mean.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed, Untrusted
from llama_marketplace.index.layout import prefixed, write_whole
from llama_marketplace.trust.pins import Pins
from llama_marketplace.trust.roles import OWN

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface, Updater

    from llama_marketplace.trust.transport import Transport

log = logging.getLogger("llama_core.marketplace")

DEADLINE_SECONDS = 60.0
MAX_TARGET_BYTES = 8 << 20
MAX_CATALOGUE_BYTES = 256 << 20
PARALLEL = 8
# One for each file of metadata: what an index may send before anything of it is believed.
_LIMITS: dict[str, Any] = {
    "root_max_length": 256 << 10,
    "timestamp_max_length": 16 << 10,
    "snapshot_max_length": 2 << 20,
    "targets_max_length": 8 << 20,
}
FIRST_ROOT = "1.root.json"
REFRESH = "Be online: llama marketplace indexes refresh"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh brought."""

    changed: bool
    bytes: int
    offline: bool = False  # no server answered; what is cached is still believed


class Client:
    """One index by its address and the digest of its first root."""

    def __init__(self, url: str, root_sha256: str, state: Path, cache: Path) -> None:
        self.url = url if url.endswith("/") else url + "/"
        self.root_sha256 = root_sha256
        self.metadata = state / "metadata"
        self.targets = cache / "targets"
        self.catalogue_file = cache / "catalogue.jsonl"
        self._facts_file = cache / "refreshed.json"
        self.pins = Pins(state / "publishers.json")
        self._updater: Updater | None = None
        self._paths: dict[str, list[str]] = {}  # of each role that was asked for, sorted
        self._transport: Transport | None = None

    @property
    def refreshed(self) -> datetime | None:
        """When the cache was last known to be what the index says."""
        try:
            return datetime.fromisoformat(json.loads(self._facts_file.read_bytes())["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def refresh(self, deadline_seconds: float = DEADLINE_SECONDS) -> Refreshed:
        """Make the cache what the index says now; without a network, keep what is there."""
        with self._verdicts(), self._alone():
            from llama_marketplace.trust.transport import Unreachable

            transport = self._network(deadline_seconds)
            before = self._facts()
            self._recover()
            try:
                with self._staged() as staged:
                    updater = self._verified(transport, staged)
                    version, shards = self._catalogue(updater, staged, transport)
            except Unreachable as error:
                if not before:
                    raise
                self._updater = None  # what is installed is verified when it is asked for
                log.warning("%s cannot be reached; what is cached is used (%s)", self.url, error)
                return Refreshed(False, transport.num_bytes, offline=True)
            self._updater = None  # it wrote to the folder that has become the other one
            if shards is not None:
                write_whole(self.catalogue_file, b"".join(shards.values()))
                self._forget("catalogue", set(shards))
            now = datetime.now(UTC).isoformat(timespec="seconds")
            facts = {"catalogue": version, "at": now}
            write_whole(self._facts_file, json.dumps(facts).encode())
            return Refreshed(shards is not None, transport.num_bytes)

    def read(self, path: str, deadline_seconds: float = DEADLINE_SECONDS) -> bytes | None:
        """The content of a target that somebody signed for, out of the cache where it is there."""
        with self._verdicts(), self._alone():
            network = self._network(deadline_seconds)
            found = self._open().get_targetinfo(path)
            return None if found is None else self._content(found, network)

    def paths(self, role: str, prefix: str) -> list[str]:
        """What a role signs for below a prefix, which must be its own."""
        from tuf.api.metadata import Metadata

        with self._verdicts(), self._alone():
            self._network(DEADLINE_SECONDS)
            # Asking for a path loads and verifies the role that may sign for it, and no other.
            self._open().get_targetinfo(f"{prefix}?")
            if role not in self._paths:
                file = self.metadata / f"{role}.json"
                if not file.is_file():
                    return []
                signed: Any = Metadata.from_file(str(file)).signed
                self._paths[role] = sorted(signed.targets)
            found = self._paths[role]
            end = bisect_left(found, f"{prefix}\U0010ffff")
            return found[bisect_left(found, prefix) : end]

    def signed_by(self, publisher: str) -> tuple[Any, Any]:
        """Which keys a publisher has here, and what it signs for, or None before its first word."""
        from tuf.api.metadata import Metadata

        with self._verdicts(), self._alone():
            self._network(DEADLINE_SECONDS)
            updater = self._open()
            signed: Any = Metadata.from_file(str(self.metadata / "targets.json")).signed
            if publisher in OWN or publisher not in signed.delegations.roles:
                raise IndexFailed(
                    f"{self.url} knows no publisher '{plain(publisher)}'",
                    remedy="Send its operator your key's .pub file.",
                )
            role = signed.delegations.roles[publisher]
            snapshot: Any = Metadata.from_file(str(self.metadata / "snapshot.json")).signed
            if f"{publisher}.json" not in snapshot.meta:
                return role, None
            updater.get_targetinfo(f"records/{publisher}/?/?")  # loads and verifies it
            return role, Metadata.from_file(str(self.metadata / f"{publisher}.json")).signed

    def _verified(self, fetcher: FetcherInterface, metadata: Path) -> Updater:
        from tuf.ngclient import Updater, UpdaterConfig

        updater = Updater(
            str(metadata),
            f"{self.url}metadata/",
            fetcher=fetcher,
            config=UpdaterConfig(**_LIMITS),
            bootstrap=self._pinned_root(fetcher),
        )
        updater.refresh()
        return updater

    def _open(self) -> Updater:
        if self._updater is None:
            self._paths.clear()
            self._recover()
            self._check_cached()
            self._updater = self._verified(self._offline(), self.metadata)
        return self._updater

    def _check_cached(self) -> None:
        """What is cached was verified; whether it is still believed, only its clock can say."""
        from tuf.api.metadata import Metadata, Timestamp

        file = self.metadata / "timestamp.json"
        if not file.is_file():
            raise IndexFailed(f"nothing is known of {self.url} yet", remedy=REFRESH)
        signed = Metadata[Timestamp].from_file(str(file)).signed
        if signed.is_expired():
            raise Untrusted(
                f"what is cached of {self.url} is no longer valid since {signed.expires:%Y-%m-%d}",
                remedy=REFRESH,
            )

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """A copy of the metadata to refresh, which takes its place if all of it was in order.

        Without it a mirror that is half uploaded, or an attack that fails late, would leave parts
        that do not fit together, and nothing could be read until the server is well again.
        """
        staged = self.metadata.with_name("metadata.new")
        shutil.rmtree(staged, ignore_errors=True)
        # The client replaces files and never writes into one, so that a link is as good as a copy.
        shutil.copytree(self.metadata, staged, symlinks=True, copy_function=_link)
        try:
            yield staged
        except BaseException:
            self._keep_roots(staged)
            shutil.rmtree(staged, ignore_errors=True)
            raise
        before = self.metadata.with_name("metadata.old")
        shutil.rmtree(before, ignore_errors=True)
        self.metadata.rename(before)
        staged.rename(self.metadata)
        shutil.rmtree(before, ignore_errors=True)

    def _keep_roots(self, staged: Path) -> None:
        """A root that was verified counts, whatever became of the rest: a stolen key stays out."""
        new = sorted((staged / "root_history").glob("*.root.json"))
        kept = self.metadata / "root_history"
        if any(not (kept / each.name).exists() for each in new):
            kept.mkdir(exist_ok=True)
            for each in new:
                each.replace(kept / each.name)
            (staged / "root.json").replace(self.metadata / "root.json")

    def _recover(self) -> None:
        """Between the two renames of a refresh that was killed, the old folder is the one."""
        before = self.metadata.with_name("metadata.old")
        if not self.metadata.is_dir() and before.is_dir():
            before.rename(self.metadata)
        self.metadata.mkdir(parents=True, exist_ok=True)

    def _offline(self) -> FetcherInterface:
        from llama_marketplace.trust.cached import Cached

        return Cached(self.metadata, self._network(DEADLINE_SECONDS))

    def _network(self, deadline_seconds: float) -> Transport:
        """The way to the index and to nowhere else, until the deadline."""
        from llama_marketplace.trust.transport import Transport, place

        if self._transport is None:
            self._transport = Transport(frozenset({place(self.url)}))
        self._transport.renew(deadline_seconds)
        return self._transport

    def _pinned_root(self, fetcher: FetcherInterface) -> bytes:
        """The first root, by its digest alone: no server, and no disk, has to be honest."""
        file = self.metadata.with_name("pinned.root.json")
        try:
            data = file.read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != self.root_sha256:
            url = f"{self.url}metadata/{FIRST_ROOT}"
            data = fetcher.download_bytes(url, _LIMITS["root_max_length"])
            if hashlib.sha256(data).hexdigest() != self.root_sha256:
                raise Untrusted(
                    f"{url} is not the root that is pinned (sha256 {self.root_sha256[:16]}…)",
                    remedy="Ask the index's operator for its root, and pin that one.",
                )
            write_whole(file, data)
        return data

    def _catalogue(
        self, updater: Updater, metadata: Path, transport: FetcherInterface
    ) -> tuple[str, dict[str, bytes] | None]:
        """The version of the catalogue, and its shards by their files where they are new."""
        from concurrent.futures import ThreadPoolExecutor

        from tuf.api.metadata import Metadata

        updater.get_targetinfo("catalogue/?")  # loads and verifies the role that signs for it
        signed: Any = Metadata.from_file(str(metadata / "catalogue.json")).signed
        version = f"{signed.version} {self.root_sha256}"
        if self._facts().get("catalogue") == version and self.catalogue_file.is_file():
            return version, None
        wanted = [one for _, one in sorted(signed.targets.items())]
        if sum(one.length for one in wanted) > MAX_CATALOGUE_BYTES:
            raise Untrusted(f"the catalogue of {self.url} is larger than any may be")
        with ThreadPoolExecutor(PARALLEL) as pool:
            contents = list(pool.map(lambda one: self._content(one, transport), wanted))
        files = [self._file_of(one) for one in wanted]
        return version, dict(zip(files, contents, strict=True))

    def _content(self, one: TargetFile, fetcher: FetcherInterface) -> bytes:
        if one.length > MAX_TARGET_BYTES:
            raise Untrusted(f"{one.path} of {self.url} has {one.length} bytes, more than any may")
        from tuf.api.exceptions import LengthOrHashMismatchError

        name = self._file_of(one)
        file = self.targets / name
        try:
            data = file.read_bytes()
            one.verify_length_and_hashes(data)
            return data
        except OSError:
            pass  # not fetched before
        except LengthOrHashMismatchError:
            log.warning("%s is damaged and is fetched anew", file)
        data = fetcher.download_bytes(f"{self.url}targets/{name}", one.length)
        one.verify_length_and_hashes(data)
        write_whole(file, data, sync=False)
        return data

    @staticmethod
    def _file_of(one: TargetFile) -> str:
        return prefixed(one.path, one.hashes.get("sha256", ""))

    def _forget(self, folder: str, keep: set[str]) -> None:
        for file in (self.targets / folder).glob("*"):
            if f"{folder}/{file.name}" not in keep:
                file.unlink(missing_ok=True)

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._facts_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that refresh at once would mix what they write."""
        from filelock import FileLock, Timeout

        self.metadata.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.metadata.parent / "lock", timeout=DEADLINE_SECONDS):
                yield
        except Timeout:
            raise IndexFailed(
                f"another process has been reading {self.url} for {DEADLINE_SECONDS:g} seconds"
            ) from None

    @contextmanager
    def _verdicts(self) -> Iterator[None]:
        """Each attack in the words of the one who is protected from it."""
        from tuf.api import exceptions as tuf

        try:
            yield
        except tuf.ExpiredMetadataError as error:
            raise Untrusted(
                f"what {self.url} serves is no longer valid: {error}; it may be held back",
                remedy="Its operator renews it with: llama marketplace renew",
            ) from error
        except tuf.BadVersionNumberError as error:
            raise Untrusted(f"{self.url} serves something older than was seen: {error}") from error
        except tuf.UnsignedMetadataError as error:
            raise Untrusted(f"{self.url} is not signed by its own keys: {error}") from error
        except tuf.LengthOrHashMismatchError as error:
            raise Untrusted(f"{self.url} serves what nobody signed for: {error}") from error
        except tuf.RepositoryError as error:
            raise Untrusted(f"{self.url} does not serve a valid index: {error}") from error
        except tuf.SlowRetrievalError as error:
            raise IndexFailed(f"{self.url} is too slow: {error}") from error
        except tuf.DownloadLengthMismatchError as error:
            raise Untrusted(f"{self.url} sends more than it may: {error}") from error
        except tuf.DownloadError as error:
            raise IndexFailed(f"cannot read {self.url}: {error}") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
