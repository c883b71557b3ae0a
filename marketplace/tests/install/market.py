"""An index without a server: records of wheels in a folder, as a source would give them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_marketplace.index.catalogue import Summary, matching, read_line, summarize, write_line
from llama_marketplace.index.near import near
from llama_marketplace.index.record import Record
from llama_marketplace.publish.recording import record_of
from llama_marketplace.wheels import inspect
from packaging.version import Version

if TYPE_CHECKING:
    from ..wheels.making import Made

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Untried(nullcontext):
    """In place of the child that tries what is installed, which takes a second each time."""

    def __enter__(self) -> Untried:
        return self

    def run(self, place: Path, plugins: Sequence[str]) -> None:
        return


class Market:
    """Looks to the installer like one configured index."""

    namespaces = ()

    def __init__(self, folder: Path, name: str = "shop") -> None:
        self.folder, self.name = folder, name
        self.records: dict[str, list[Record]] = {}
        self.num_fetched = 0

    def publish(self, made: Made, publisher: str = "ann", **changed: Any) -> Record:
        """Sign for a wheel; `changed` is what the record then says otherwise."""
        wheel = inspect(made.write(self.folder))
        record = record_of([wheel], publisher=publisher, now=NOW, needs={})
        record = record.model_copy(update=changed)
        self.records.setdefault(record.name, []).append(record)
        return record

    def serves(self, name: str) -> bool:
        return True

    def summaries(self, words: Sequence[str] = ()) -> Iterator[Summary]:
        return (read_line(line) for _, line in matching(BytesIO(self._catalogue), words))

    def near(self, name: str) -> list[Summary]:
        return [read_line(line) for line in near(BytesIO(self._catalogue), name)]

    @property
    def _catalogue(self) -> bytes:
        every = (summarize(each, verified=False) for each in self.records.values())
        return b"".join(map(write_line, every))

    def releases(self, name: str) -> tuple[Record, ...]:
        found = self.records.get(name, [])
        return tuple(sorted(found, key=lambda each: Version(each.version), reverse=True))

    def fetch(self, file: Any, into: Path, progress: Any = None) -> Path:
        self.num_fetched += 1
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / file.filename, into / file.filename)
        return into / file.filename
