"""Removing what no reader asks for any more: metadata and targets of moments that have passed.

A reader who has begun with one snapshot reads all that belongs to it, so a snapshot is kept whole
for some time after another has taken its place. Wheels and roots are always kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from llama_marketplace.index.layout import Layout


def prune(layout: Layout, replaced_before: datetime) -> int:
    """Remove files of an index; gives how many."""
    kept = set(_kept(layout, replaced_before.timestamp()))
    gone = 0
    for folder in (layout.metadata, layout.targets):
        for file in folder.rglob("*"):
            if file.is_file() and file not in kept:
                file.unlink()
                gone += 1
    return gone


def _kept(layout: Layout, until: float) -> Iterator[Path]:
    from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

    yield layout.metadata / "timestamp.json"
    yield from layout.metadata.glob("*.root.json")
    timestamp = Metadata[Timestamp].from_file(str(layout.metadata / "timestamp.json")).signed
    seen: set[Path] = set()
    for file in _snapshots(layout, timestamp.snapshot_meta.version, until):
        yield file
        for name, meta in Metadata[Snapshot].from_file(str(file)).signed.meta.items():
            role = layout.metadata / f"{meta.version}.{name}"
            if role in seen:
                continue
            seen.add(role)
            yield role
            for path, target in Metadata[Targets].from_file(str(role)).signed.targets.items():
                yield layout.target(path, target.hashes["sha256"])


def _snapshots(layout: Layout, current: int, until: float) -> Iterator[Path]:
    """The current one, and those that it or a later one replaced not long ago."""
    files = {
        int(file.name.partition(".")[0]): file for file in layout.metadata.glob("*.snapshot.json")
    }
    versions = sorted(version for version in files if version <= current)
    for version, after in zip(versions, [*versions[1:], None], strict=True):
        if after is None or files[after].stat().st_mtime >= until:
            yield files[version]
