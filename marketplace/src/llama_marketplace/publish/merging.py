"""A version that is published already, and what is published of it again: what may change and what
may not.

It may gain wheels, and results of suites; what it had, and what it says of itself, stays.
"""

from __future__ import annotations

from llama_core.errors import plain
from llama_marketplace.errors import IndexFailed
from llama_marketplace.index.record import MAX_CONFORMANCE, Record

NEW_VERSION = "A version never changes: publish a new one."
# What all wheels of a version say alike; the README is the newest wheel's.
_SAME = (
    "plugin", "package", "summary", "licence", "requires_core", "requires_python", "requires",
    "provides", "listens", "permissions",
)  # fmt: skip


def merged(before: Record | None, record: Record) -> Record:
    """A record upon the one that its index has of this version."""
    if before is None:
        return record
    files = {file.filename: file for file in before.files}
    for file in record.files:
        old = files.get(file.filename)
        if old is not None and old.sha256 != file.sha256:
            raise IndexFailed(
                f"{file.filename} is published already, with other content", remedy=NEW_VERSION
            )
        files[file.filename] = file
    for word in _SAME:
        if getattr(before, word) != getattr(record, word):
            raise IndexFailed(
                f"{record.name} {record.version} is published already, with another {word}: "
                f"{plain(getattr(before, word), 200)}",
                remedy=NEW_VERSION,
            )
    tried = {(each.core, each.suite) for each in record.conformance}
    found = [each for each in before.conformance if (each.core, each.suite) not in tried]
    return record.model_copy(
        update={
            "files": tuple(files[name] for name in sorted(files)),
            "conformance": (*found, *record.conformance)[-MAX_CONFORMANCE:],
            # When it was published, and what became of it since, is what it was.
            "published": before.published,
            "history": before.history,
        }
    )
