"""The catalogue: one line of JSON for each plugin, in shards that the index signs.

Search reads nothing else. The lines of all shards one after the other are the client's cache, so a
refresh copies bytes and a search parses only the lines that may match. Knows records and lines;
knows nothing of files or the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from llama_core.errors import plain
from llama_marketplace.errors import RecordRefused
from llama_marketplace.index.ranges import is_range, is_version
from llama_marketplace.index.strict_json import read_json

if TYPE_CHECKING:
    from llama_marketplace.index.record import Record

MAX_LINE_BYTES = 64 << 10
MAX_SHARD_BYTES = 8 << 20
# Searched at once: small enough to stay in the processor's cache, where all of it in one piece took
# three times as long.
BLOCK_BYTES = 64 << 10
MAX_OFFERED = 10  # versions in a line, the newest; the records have them all
MAX_OLDER = 10  # and of those before them, which may fit where no newer one does
STATUSES = ("active", "deprecated", "yanked", "quarantined")
LINE = "a line of the catalogue"
MEND = "Tell whoever keeps the index: `llama marketplace rebuild` writes its catalogue anew."


@dataclass(frozen=True, slots=True)
class Offered:
    """One version: what it takes to know whether it fits this machine."""

    version: str
    requires_core: str = ""
    requires_python: str = ""
    status: str = "active"
    reason: str | None = None
    platforms: tuple[str, ...] = ()  # "linux/x86_64"; empty: any
    devices: tuple[str, ...] = ()  # "cuda>=12.4", one of them; empty: none is needed


@dataclass(frozen=True, slots=True)
class Summary:
    """A plugin as search shows it."""

    name: str
    plugin: str
    publisher: str
    summary: str
    licence: str | None = None
    provides: tuple[str, ...] = ()  # "transform:min-p"
    verified: bool = False
    published: str = ""  # the day of the newest version
    versions: tuple[Offered, ...] = ()  # newest first

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted({each.partition(":")[0] for each in self.provides}))

    @property
    def platforms(self) -> tuple[str, ...]:
        return tuple(sorted({name for each in self.versions for name in each.platforms}))

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(sorted({name for each in self.versions for name in each.devices}))


def summarize(records: Sequence[Record], *, verified: bool) -> Summary:
    """All versions of one plugin in one line."""
    from packaging.version import Version

    newest = sorted(records, key=lambda each: Version(each.version), reverse=True)
    first = next((each for each in newest if each.status.status == "active"), newest[0])
    return Summary(
        name=first.name,
        plugin=first.plugin,
        publisher=first.publisher,
        summary=first.summary,
        licence=first.licence,
        provides=tuple(f"{each.kind}:{each.name}" for each in first.provides),
        verified=verified,
        published=max(each.published for each in records).date().isoformat(),
        versions=tuple(_worth_showing([_offered(each) for each in newest])),
    )


def _worth_showing(newest: Sequence[Offered]) -> list[Offered]:
    """The newest versions, and the newest of those that need something else than these do."""
    found = list(newest[:MAX_OFFERED])
    needs = {_needs(each) for each in found if each.status == "active"}
    for each in newest[MAX_OFFERED:]:
        if len(found) < MAX_OFFERED + MAX_OLDER and each.status == "active":
            if _needs(each) not in needs:
                found.append(each)
            needs.add(_needs(each))
    return found


def _needs(one: Offered) -> tuple[object, ...]:
    return one.requires_core, one.requires_python, one.platforms, one.devices


def _offered(record: Record) -> Offered:
    platforms: set[str] = set()
    devices: set[str] = set()
    anywhere = no_device = False
    for file in record.files:
        needs = file.needs
        runs_on = {
            f"{system}/{machine}" for system in needs.os for machine in needs.arch or ("any",)
        }
        anywhere |= not runs_on
        platforms |= runs_on
        wanted = {f"{key}{each}" for key in ("cuda", "rocm") if (each := getattr(needs, key))}
        no_device |= not wanted
        devices |= wanted
    return Offered(
        version=record.version,
        requires_core=record.requires_core,
        requires_python=record.requires_python,
        status=record.status.status,
        reason=record.status.reason,
        platforms=() if anywhere else tuple(sorted(platforms)),
        devices=() if no_device else tuple(sorted(devices)),
    )


def write_line(summary: Summary) -> bytes:
    """One line; what is at its default is left out."""
    table: dict[str, Any] = _sparse(summary)
    table["versions"] = [_sparse(each) for each in summary.versions]
    text = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def read_line(line: bytes, source: str = LINE) -> Summary:
    """A line that an index signed; strict all the same. `source` is what a refusal calls it."""
    try:
        table = read_json(line, source=source, max_bytes=MAX_LINE_BYTES)
    except RecordRefused as error:
        raise RecordRefused(error.message, remedy=MEND) from None
    name = table.get("name")
    whose = f"{source}, of {plain(name, 100)}," if isinstance(name, str) else source
    try:
        versions = tuple(_offer(each) for each in table.pop("versions", ()))
        return Summary(**_texts(table), versions=versions)
    except TypeError as error:
        raise RecordRefused(f"{whose} is not valid: {plain(error, 240)}", remedy=MEND) from None


def name_in(line: bytes) -> str:
    """Whose a line is, whatever else it says."""
    table = read_json(line, source=LINE, max_bytes=MAX_LINE_BYTES)
    if not isinstance(table.get("name"), str):
        raise RecordRefused(f"{LINE} names no plugin")
    return str(table["name"])


def matching(
    file: IO[bytes], words: Sequence[str] = (), refuse: Callable[[bytes], object] = read_line
) -> Iterator[tuple[str, bytes]]:
    """The plugins of which every word says something, by name, each with its line.

    A line that cannot match is not parsed, and one that does only as far as that takes: whoever
    shows what stands in it gives it to `read_line`. One that takes not even that much is handed to
    `refuse`, and passed over if that returns.
    """
    parts = [part.casefold() for word in words for part in word.split()]
    sought = [json.dumps(part, ensure_ascii=False)[1:-1].encode() for part in parts]
    while block := file.read(BLOCK_BYTES):
        block += file.readline()
        for line in _candidates(block, sought):
            try:
                name, said = _said(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                refuse(line)
                continue
            if all(part in said for part in parts):
                yield name, line


def _candidates(block: bytes, sought: Sequence[bytes]) -> Iterator[bytes]:
    """The lines of which the folded bytes hold everything that is sought."""
    if not sought or not block.isascii():
        lines = (line for line in block.split(b"\n") if line)
        yield from (line for line in lines if all(part in _folded(line) for part in sought))
        return
    folded = block.lower()  # what casefold does to ASCII, and a hundred times as fast
    first = max(sought, key=len)
    end = 0
    while (at := folded.find(first, end)) >= 0:
        start, end = folded.rfind(b"\n", 0, at) + 1, folded.find(b"\n", at)
        end = len(folded) if end < 0 else end
        if all(folded.find(part, start, end) >= 0 for part in sought):
            yield block[start:end]


def _said(line: bytes) -> tuple[str, str]:
    """The name, and the text in which words are looked for."""
    table = json.loads(str(line, "utf-8"))
    texts = (table["name"], table["summary"], table["publisher"], *table.get("provides", ()))
    return table["name"], " ".join(texts).casefold()


def _folded(line: bytes) -> bytes:
    if line.isascii():
        return line.lower()
    return line.decode("utf-8", "replace").casefold().encode()


_TEXTS: dict[str, Any] = {
    "name": str, "plugin": str, "publisher": str, "summary": str, "licence": (str, type(None)),
    "verified": bool, "published": str, "version": str, "requires_core": str,
    "requires_python": str, "status": str, "reason": (str, type(None)),
}  # fmt: skip


def _offer(table: Any) -> Offered:
    """One version; what is compared with this machine later can be."""
    one = Offered(**_texts(table))
    if not is_version(one.version):
        raise TypeError(f"version '{plain(one.version)}' is not one such as '1.2.0'")
    if one.status not in STATUSES:
        whose = f"'{plain(one.status)}' of version {plain(one.version)}"
        raise TypeError(f"status {whose} is not one of {', '.join(STATUSES)}")
    devices = (each[4:] for each in one.devices if each.startswith(("cuda", "rocm")))
    for text in (one.requires_core, one.requires_python, *devices):
        if not is_range(text):
            what = f"'{plain(text)}' of version {plain(one.version)}"
            raise TypeError(f"{what} is not a range such as '>=0.2'")
    return one


def _texts(table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise TypeError(f"{table!r} is not an object")
    checked = {}
    for key, value in table.items():
        if isinstance(value, list):
            if not all(isinstance(each, str) for each in value):
                raise TypeError(f"{key} holds what is not text")
            checked[key] = tuple(value)
        elif isinstance(value, _TEXTS.get(key, ())):
            checked[key] = value
        else:
            raise TypeError(f"{key} = {value!r}")
    return checked


def _sparse(one: Summary | Offered) -> dict[str, Any]:
    fields = type(one).__dataclass_fields__
    table = {name: getattr(one, name) for name in fields if name != "versions"}
    return {name: value for name, value in table.items() if value != fields[name].default}
