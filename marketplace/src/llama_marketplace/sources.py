"""The indexes that the user trusts, in their order, and what they say of a name.

An index is trusted by four lines in the user's own `llama.toml`; a project's file cannot add one,
or a folder that was cloned could choose where plugins come from. A name belongs to the first index
that has it; two indexes are never mixed by version. Knows records and wheels; installs nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llama_core.config import project_config_file, user_config_file
from llama_core.errors import ConfigError, did_you_mean, plain
from llama_core.tables import read_table
from llama_marketplace.errors import IndexFailed, RecordRefused, Untrusted
from llama_marketplace.trust.client import DEADLINE_SECONDS, REFRESH, Client, Refreshed

if TYPE_CHECKING:
    from llama_marketplace.index.catalogue import Summary
    from llama_marketplace.index.record import File, Record

log = logging.getLogger("llama_core.marketplace")

SECTION = "marketplace"
MAX_INDEXES = 16
MAX_CONFIG_BYTES = 1 << 20
FRESH = timedelta(minutes=10)  # for so long a refresh is not repeated unless asked for
# Where records may say that a wheel lies, beside the index itself; over https alone.
WHEEL_HOSTS = ("files.pythonhosted.org",)
LEAST_BYTES_PER_SECOND = 20_000  # slower than this, a download is given up
Progress = Callable[[int], None]

_FIELDS = {"name": str, "url": str, "root": str, "namespaces": list, "wheel-hosts": list}


@dataclass(frozen=True, slots=True)
class Source:
    """One index."""

    name: str
    url: str
    root: str  # the SHA-256 of its first root
    namespaces: tuple[str, ...] = ()
    wheel_hosts: tuple[str, ...] = ()
    client: Client | None = None
    _told: set[bytes] = field(default_factory=set, compare=False, repr=False)

    @property
    def refreshed(self) -> datetime | None:
        """When it was last known what the index says."""
        return self._client.refreshed

    def entry(self) -> dict[str, Any]:
        """As it stands in `llama.toml`."""
        lists = {"namespaces": list(self.namespaces), "wheel-hosts": list(self.wheel_hosts)}
        filled = {key: value for key, value in lists.items() if value}
        return {"name": self.name, "url": self.url, "root": self.root, **filled}

    def serves(self, name: str) -> bool:
        """Whether a name may come from here at all."""
        return not self.namespaces or any(fnmatchcase(name, each) for each in self.namespaces)

    def refresh(self, deadline: float = DEADLINE_SECONDS) -> Refreshed:
        """Ask the index what is new."""
        return self._client.refresh(deadline)

    def freshen(self, deadline: float = DEADLINE_SECONDS) -> Refreshed:
        """Refresh, unless that was done a moment ago."""
        at = self._client.refreshed
        if at is not None and timedelta() <= datetime.now(UTC) - at < FRESH:
            return Refreshed(False, 0)
        return self.refresh(deadline)

    def summaries(self, words: Sequence[str] = ()) -> Iterator[Summary]:
        """The plugins of which all words say something, out of the cached catalogue."""
        return (one for _, line in self.lines(words) if (one := self.valid(line)))

    def lines(self, words: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
        """The same plugins by name, each with its line of the catalogue."""
        from llama_marketplace.index.catalogue import matching

        with self._catalogue() as file:
            found = matching(file, words, self.valid)
            yield from (each for each in found if self.serves(each[0]))

    def read(self, line: bytes) -> Summary:
        """What a line of the catalogue says; RecordRefused if that cannot be."""
        from llama_marketplace.index.catalogue import LINE, read_line

        return read_line(line, f"{LINE} of '{self.name}'")

    def valid(self, line: bytes) -> Summary | None:
        """The same; what cannot be hides no other plugin, so it is told, once, and passed over."""
        try:
            return self.read(line)
        except RecordRefused as error:
            if line not in self._told:
                self._told.add(line)
                log.warning("passed over: %s", error)
            return None

    def near(self, name: str) -> list[Summary]:
        """The plugins whose names a hasty reader might take for this one."""
        from llama_marketplace.index.near import near

        with self._catalogue() as file:
            return [one for line in near(file, name) if (one := self.valid(line))]

    def _catalogue(self) -> IO[bytes]:
        try:
            return self._client.catalogue_file.open("rb")
        except OSError:
            raise IndexFailed(
                f"nothing is known of index '{self.name}' yet", remedy=REFRESH
            ) from None

    def releases(self, name: str) -> tuple[Record, ...]:
        """All versions of a name, each under its publisher's own signature; newest first."""
        from packaging.version import Version

        from llama_marketplace.index import names
        from llama_marketplace.index.layout import names_path
        from llama_marketplace.index.record import read, record_path

        client = self._client
        claim = names.read_claims(client.read(names_path(name))).get(name)
        if claim is None:
            return ()
        self._pin(name, claim.publisher)
        found = []
        prefix = record_path(claim.publisher, name, "")[: -len(".json")]
        for path in client.paths(claim.publisher, prefix):
            data = client.read(path)
            if data is None:
                continue
            record = read(data, source=f"{path} of {self.url}")
            if record.path != path:
                raise Untrusted(f"{path} of {self.url} holds a record of {record.path}")
            found.append(names.decided(record, claim))
        return tuple(sorted(found, key=lambda each: Version(each.version), reverse=True))

    def pinning(self) -> AbstractContextManager[None]:
        """For reading many names: whose they are is written down once, at the end."""
        return self._client.pins.together()

    def fetch(self, file: File, into: Path, progress: Progress | None = None) -> Path:
        """A wheel, out of the cache or from where its record says; its digest and size are held."""
        kept = self._client.targets.parent / file.path
        target = into / file.filename
        into.mkdir(parents=True, exist_ok=True)
        if not _is_same(kept, file):
            self._download(file, kept, progress)
        _copy(kept, target)
        return target

    def _download(self, file: File, kept: Path, progress: Progress | None) -> None:
        from tuf.api.exceptions import DownloadError

        from llama_marketplace.trust.transport import Transport, place

        url = file.url or f"{self._client.url}{file.path}"
        others = (place(f"https://{each}") for each in (*WHEEL_HOSTS, *self.wheel_hosts))
        transport = Transport(frozenset({place(self.url), *others}))
        transport.renew(DEADLINE_SECONDS + file.size / LEAST_BYTES_PER_SECOND)
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside = kept.with_name(kept.name + ".part")
        digest, size = hashlib.sha256(), 0
        try:
            with beside.open("wb") as out:
                for chunk in transport.fetch(url):
                    size += len(chunk)
                    if size > file.size:
                        raise Untrusted(f"{url} sends more than the {file.size} bytes signed for")
                    digest.update(chunk)
                    out.write(chunk)
                    if progress:
                        progress(len(chunk))
            if size != file.size or digest.hexdigest() != file.sha256:
                raise Untrusted(
                    f"{url} is not the file that was signed for: {size} bytes, sha256 "
                    f"{digest.hexdigest()[:16]}…"
                )
            beside.replace(kept)
        except DownloadError as error:
            raise IndexFailed(f"cannot download {file.filename}: {error}") from error
        finally:
            beside.unlink(missing_ok=True)

    def _pin(self, name: str, publisher: str) -> None:
        """A name that was one publisher's is refused when the index says that it is another's."""
        pins = self._client.pins
        before = pins.whose(name, publisher)
        if before != publisher:
            raise Untrusted(
                f"{name} was published by {before}, and '{self.name}' now says {publisher}",
                remedy=f"If its operator confirms that, remove {name} from {pins.file}.",
            )

    @property
    def _client(self) -> Client:
        assert self.client is not None
        return self.client


def configured(file: Path | None = None) -> list[Source]:
    """The indexes of the user's `llama.toml`, by priority: as they stand there, first is first."""
    if file is None:
        file = user_config_file()
        _announce_ignored(file)
    table = _section(file)
    entries = table.get("indexes", [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ConfigError(f"{file}: {SECTION}.indexes must be tables, [[{SECTION}.indexes]]")
    if len(entries) > MAX_INDEXES:
        raise ConfigError(f"{file} names {len(entries)} indexes; {MAX_INDEXES} are the most")
    found = [
        from_entry(entry, f"{file}: index {number}") for number, entry in enumerate(entries, 1)
    ]
    names = [each.name for each in found]
    if len(set(names)) != len(names):
        raise ConfigError(f"{file} has two indexes of one name")
    return found


def owner(name: str, sources: Iterable[Source]) -> list[Source]:
    """The indexes that may answer for a name, in order; the first that has it is the only one.

    A name that is in one index's namespaces is asked of no index without namespaces.
    """
    sources = list(sources)
    claimed = [each for each in sources if each.namespaces and each.serves(name)]
    return claimed or [each for each in sources if not each.namespaces]


def first(name: str, asked: Iterable[Source]) -> tuple[Source, tuple[Record, ...]] | None:
    """The first of these indexes that has a name, and all its versions there."""
    for source in asked:
        if releases := source.releases(name):
            return source, releases
    return None


def find(name: str, sources: Iterable[Source]) -> tuple[Source, tuple[Record, ...]]:
    """The one index that a name comes from, and all its versions there."""
    asked = owner(name, sources)
    if found := first(name, asked):
        return found
    near: list[str] = []
    for source in asked:
        near += [each.name for each in source.summaries()]
    where = ", ".join(each.name for each in asked) or "any index"
    raise IndexFailed(f"there is no {plain(name)} in {where}", remedy=did_you_mean(name, near))


def from_entry(entry: Mapping[str, Any], where: str) -> Source:
    """One table of the file; whatever is wrong with it is named."""
    import platformdirs

    for key, value in entry.items():
        if key not in _FIELDS:
            raise ConfigError(f"{where}: unknown '{plain(key)}'", remedy=did_you_mean(key, _FIELDS))
        texts = value if _FIELDS[key] is list and isinstance(value, list) else [value]
        if not isinstance(value, _FIELDS[key]) or not all(isinstance(one, str) for one in texts):
            raise ConfigError(f"{where}: {key} = {plain(value)} is not what it must be")
    missing = [key for key in ("name", "url", "root") if not entry.get(key)]
    if missing:
        raise ConfigError(f"{where} has no {' and no '.join(missing)}")
    name, url, root = entry["name"], entry["url"], entry["root"].lower()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}: '{plain(url)}' is no http or https address")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{where}: the address holds a name or a password",
            remedy=f"Write `machine {parts.hostname} login NAME password PASSWORD` into ~/.netrc.",
        )
    if len(root) != 64 or set(root) - set("0123456789abcdef"):
        raise ConfigError(f"{where}: root must be the SHA-256 of the index's 1.root.json")
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise ConfigError(f"{where}: the name '{plain(name)}' must be letters, digits and hyphens")
    key = f"{name}-{hashlib.sha256(f'{url} {root}'.encode()).hexdigest()[:12]}"
    dirs = platformdirs.PlatformDirs("llama-core", appauthor=False)
    return Source(
        name,
        url,
        root,
        tuple(entry.get("namespaces", ())),
        tuple(entry.get("wheel-hosts", ())),
        Client(
            url,
            root,
            Path(dirs.user_data_dir, "indexes", key),
            Path(dirs.user_cache_dir, "indexes", key),
        ),
    )


def _section(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    table = read_table(file, max_bytes=MAX_CONFIG_BYTES, error=ConfigError).get(SECTION, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: [{SECTION}] must be a table")
    if unknown := set(table) - {"indexes"}:
        raise ConfigError(f"{file}: there is no {SECTION}.{plain(sorted(unknown)[0])}")
    return table


def _announce_ignored(file: Path) -> None:
    project = project_config_file()
    if project is not None and project != file and _section(project):
        log.warning("[%s] in %s is left out: only %s says whom to trust", SECTION, project, file)


def _is_same(path: Path, file: File) -> bool:
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copyfile(source, target)
