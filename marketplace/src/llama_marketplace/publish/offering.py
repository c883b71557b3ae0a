"""What a publisher signs on its own machine, for the operator of an index to take in elsewhere.

An offer is a folder laid out as the index is: the publisher's role in its next version, signed; the
records that are new in it; and their wheels, so that the operator can look for itself. It is made
upon what a trusted index says now. The keys of the index are not needed for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed
from llama_marketplace.index import names
from llama_marketplace.index.layout import Layout, names_path, write_whole
from llama_marketplace.index.record import Change, Record, read, record_path, write
from llama_marketplace.publish.merging import merged
from llama_marketplace.trust.roles import PUBLISHER_DAYS

if TYPE_CHECKING:
    from llama_marketplace.sources import Source
    from llama_marketplace.trust.keys import KeyRing


class Offer:
    """Changes to what one publisher signs for in one index."""

    def __init__(self, source: Source, publisher: str, ring: KeyRing, now: datetime) -> None:
        from tuf.api.metadata import Metadata, Targets

        assert source.client is not None
        self._client = source.client
        self.index, self.publisher = source.name, publisher
        role, before = self._client.signed_by(publisher)
        self._signers = ring.for_role(publisher, role.keyids, role.threshold)
        expires = now.replace(microsecond=0) + timedelta(days=PUBLISHER_DAYS)
        signed = Targets(version=1, expires=expires)
        if before is not None:
            signed.version, signed.targets = before.version + 1, before.targets
        self._metadata: Metadata[Any] = Metadata(signed)
        self._contents: dict[str, bytes] = {}
        self._wheels: dict[str, Path] = {}

    def before(self, name: str, version: str) -> Record | None:
        """What the index has of a version."""
        path = record_path(self.publisher, name, version)
        data = self._client.read(path) if path in self._metadata.signed.targets else None
        return None if data is None else read(data, source=f"{path} of '{self.index}'")

    def held(self, record: Record) -> set[str]:
        """The wheels of a version that are published already, by name."""
        there = self.before(record.name, record.version)
        return {file.filename for file in there.files} if there else set()

    def add(self, records: Iterable[Record], wheels: Iterable[Path]) -> None:
        """Offer records, and the wheels that they name."""
        for record in records:
            claim = names.read_claims(self._client.read(names_path(record.name))).get(record.name)
            if claim is not None and claim.publisher != self.publisher:
                raise IndexFailed(
                    f"{record.name} is {claim.publisher}'s in '{self.index}'",
                    remedy="Choose another name.",
                )
            self._put(merged(self.before(record.name, record.version), record))
        paths = {file.filename: file.path for record in records for file in record.files}
        self._wheels |= {paths[wheel.name]: wheel for wheel in wheels}

    def change_status(self, name: str, version: str, change: Change) -> None:
        """What the publisher says of its own version."""
        record = self.before(name, version)
        if record is None:
            raise IndexFailed(
                f"{self.publisher} has published no {plain(name)} {plain(version)} in "
                f"'{self.index}'"
            )
        self._put(record.model_copy(update={"history": (*record.history, change)}))

    def write(self, folder: Path) -> None:
        """Sign it and write all of it into a new folder; the signed file comes last."""
        from tuf.api.serialization.json import JSONSerializer

        if folder.exists() and any(folder.iterdir()):
            raise IndexFailed(f"{folder} is not empty", remedy="Name a new folder.")
        layout = Layout(folder)
        for path, wheel in self._wheels.items():
            write_whole(folder / path, wheel.read_bytes())
        for path, data in self._contents.items():
            write_whole(layout.target(path, hashlib.sha256(data).hexdigest()), data)
        for signer in self._signers:
            self._metadata.sign(signer, append=True)
        file = f"{self._metadata.signed.version}.{self.publisher}.json"
        data = self._metadata.to_bytes(JSONSerializer(compact=True))
        write_whole(layout.metadata / file, data)

    def _put(self, record: Record) -> None:
        from tuf.api.metadata import TargetFile

        data = write(record)
        digest = hashlib.sha256(data).hexdigest()
        self._metadata.signed.targets[record.path] = TargetFile(
            len(data), {"sha256": digest}, record.path
        )
        self._contents[record.path] = data
