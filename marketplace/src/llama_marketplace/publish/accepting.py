"""Taking an offer of a publisher into an index: all of it verified first, and nothing of it run.

An offer comes from outside, so that what it says is held against the publisher's keys in this
index, what the index has, and its wheels. What suites found is the publisher's own word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed, RecordRefused
from llama_marketplace.index.layout import Layout
from llama_marketplace.index.record import MAX_BYTES, File, Record, read, write
from llama_marketplace.publish.merging import merged
from llama_marketplace.publish.recording import record_of
from llama_marketplace.publish.repository import Repository
from llama_marketplace.trust.roles import Signed
from llama_marketplace.wheels import Inspected, inspect

MAX_METADATA_BYTES = 8 << 20  # what readers take
AHEAD = timedelta(days=1)  # of a publisher's clock


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an offer brought."""

    publisher: str
    records: tuple[Record, ...]
    warnings: tuple[str, ...]


def accept(index: Repository, folder: Path) -> Accepted:
    """Take an offer in, in memory; whatever is wrong with it is said and changes nothing."""
    offered = _signed(folder)
    index.roles.verify(offered)
    before = index.roles.role(offered.publisher).signed.targets
    after = offered.metadata.signed.targets
    if gone := sorted(set(before) - set(after)):
        raise IndexFailed(
            f"the offer leaves out {plain(gone[0])}, which is published",
            remedy="A version that is not to be used is yanked: llama marketplace mark",
        )
    records, wheels = [], []
    for path, one in sorted(after.items()):
        if one != before.get(path):
            record = _record(folder, offered.publisher, path, one)
            wheels += _checked(index, folder, record)
            records.append(record)
    warnings = index.adopt(offered, records, wheels)
    return Accepted(offered.publisher, tuple(records), tuple(warnings))


def _signed(folder: Path) -> Signed:
    """The one role that is in an offer, still unverified."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Targets

    files = sorted(Layout(folder).metadata.glob("*.json"))
    if len(files) != 1:
        raise IndexFailed(
            f"{folder} is no offer: it holds {len(files)} files of metadata, not one",
            remedy="Its publisher makes one: llama marketplace publish … --offer FOLDER",
        )
    publisher = files[0].name.split(".")[1]
    data = _bytes(folder, files[0], MAX_METADATA_BYTES)
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise IndexFailed(f"{files[0]} is not metadata: {plain(error, 200)}") from None
    if not isinstance(metadata.signed, Targets) or metadata.signed.delegations is not None:
        raise IndexFailed(f"{files[0]} is not what a publisher signs for its own plugins")
    return Signed(publisher, metadata)


def _digest(one: Any) -> str:
    """By which a target's file is named: an index has no other digests."""
    if set(one.hashes) != {"sha256"}:
        raise IndexFailed(f"{plain(one.path)} is not signed for by its sha256 alone")
    return str(one.hashes["sha256"])


def _record(folder: Path, publisher: str, path: str, one: Any) -> Record:
    file = Layout(folder).target(path, _digest(one))
    data = _bytes(folder, file, MAX_BYTES)
    if len(data) != one.length or hashlib.sha256(data).hexdigest() != _digest(one):
        raise IndexFailed(f"{file} is not what was signed for")
    record = read(data, source=str(file))
    if record.path != path or record.publisher != publisher:
        raise RecordRefused(f"{file} is a record of {record.path}")
    if write(record) != data:
        raise RecordRefused(f"{file} is not written as records are")
    return record


def _checked(index: Repository, folder: Path, record: Record) -> list[Path]:
    """The wheels that the index is to hold; the record says what they, and the index, say."""
    there = index.before(record)
    held = {file.filename for file in there.files} if there else set()
    new = [file for file in record.files if file.filename not in held]
    wheels = [_wheel(folder, file) for file in new]
    expected = merged(there, _derived(record, new, wheels) if new else record)
    if there and not new:
        about = {"readme": there.readme, "homepage": there.homepage}
        expected = expected.model_copy(update=about)
    now, known = index.roles.now, expected.history
    added = record.history[len(known) :]
    if record.history[: len(known)] != known:
        raise IndexFailed(f"the offer rewrites the history of {record.name} {record.version}")
    if any(each.status == "quarantined" for each in added):
        raise IndexFailed(f"{record.name} {record.version}: only an index quarantines")
    if record.published > now + AHEAD or any(each.date > (now + AHEAD).date() for each in added):
        raise IndexFailed(f"{record.name} {record.version} is of a day to come")
    expected = expected.model_copy(update={"history": record.history})
    for word in Record.model_fields:
        if getattr(expected, word) != getattr(record, word):
            raise RecordRefused(
                f"the record of {record.name} {record.version} is not what its wheels and this "
                f"index say: its {word} would be {plain(getattr(expected, word), 200)}",
                remedy="Its publisher offers it again, with the same llama-marketplace.",
            )
    return [wheel.path for wheel, file in zip(wheels, new, strict=True) if file.url is None]


def _wheel(folder: Path, file: File) -> Inspected:
    path = folder / file.path
    _inside(folder, path)
    wheel = inspect(path)
    if (wheel.sha256, wheel.size) != (file.sha256, file.size):
        raise IndexFailed(f"{path} is not the wheel that was signed for")
    return wheel


def _derived(record: Record, new: Sequence[File], wheels: Sequence[Inspected]) -> Record:
    """The record that these wheels make; devices, addresses and results are the publisher's say."""
    devices: dict[str, Mapping[str, str]] = {
        file.filename: file.needs.model_dump(include={"cpu", "cuda", "rocm"}, exclude_none=True)
        for file in new
    }
    url = new[0].url
    return record_of(
        wheels,
        publisher=record.publisher,
        now=record.published,
        needs=devices,
        wheels_at=url.rpartition("/")[0] if url else None,
        conformance=[each.model_dump() for each in record.conformance],
    )


def _bytes(folder: Path, file: Path, most: int) -> bytes:
    _inside(folder, file)
    with file.open("rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise IndexFailed(f"{file} is longer than {most} bytes")
    return data


def _inside(folder: Path, file: Path) -> None:
    """A path is made of what a stranger wrote, and might lead elsewhere, by a link too."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise IndexFailed(f"{plain(file)} leads out of the offer")
    if not file.is_file():
        raise IndexFailed(f"the offer lacks {plain(file)}")
