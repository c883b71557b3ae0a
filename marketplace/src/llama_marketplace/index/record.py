"""A record: everything an index says of one version of a plugin, signed by its publisher.

Read strictly, since it comes from outside: unknown fields, long texts and untyped values are
refused. A kind, an operating system or a processor that this version has never heard of is not,
or no old client could read a new index. Knows nothing of files, signatures or the network.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from llama_core.errors import plain
from llama_core.manifest import Dotted, Line, Name, PluginName
from llama_marketplace.errors import RecordRefused
from llama_marketplace.index.strict_json import read_json

SCHEMA = 1
MAX_BYTES = 256 << 10  # of one record
MAX_README_BYTES = 64 << 10
MAX_FILE_BYTES = 4 << 30
MAX_CONFORMANCE = 100


def _is_version(text: str) -> str:
    try:
        version = Version(text)
    except InvalidVersion as error:
        raise ValueError("not a version such as '1.2.0'") from error
    if str(version) != text:
        raise ValueError(f"write it in its normal form, '{version}'")
    return text


def _is_range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError("not a version range such as '>=0.2'") from error
    return text


def _is_requirement(text: str) -> str:
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError("not a requirement such as 'numpy>=1.26'") from error
    if wanted.url:
        raise ValueError("a requirement by address would escape the index")
    return text


def _is_readme(text: str) -> str:
    if len(text.encode()) > MAX_README_BYTES:
        raise ValueError(f"longer than {MAX_README_BYTES >> 10} KiB")
    return text


DistName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Publisher = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
VersionText = Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_version)]
Range = Annotated[str, StringConstraints(max_length=200), AfterValidator(_is_range)]
Needed = Annotated[str, StringConstraints(max_length=300), AfterValidator(_is_requirement)]
Readme = Annotated[str, AfterValidator(_is_readme)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=500)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Platform = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
Status = Literal["active", "deprecated", "yanked", "quarantined"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needs(_Table):
    """Where something can run at all. An empty list means anywhere; no range, no such device."""

    os: tuple[Platform, ...] = Field(default=(), max_length=16)
    arch: tuple[Platform, ...] = Field(default=(), max_length=16)
    cpu: Platform | None = None  # the least instruction-set tier, as the backends call them
    cuda: Range | None = None
    rocm: Range | None = None


class File(_Table):
    """One wheel. Without an address it lies in the index, under its digest."""

    filename: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+\.whl$", max_length=250)]
    sha256: Sha256
    size: int = Field(strict=True, ge=1, le=MAX_FILE_BYTES)
    url: Url | None = None
    tags: tuple[Annotated[str, StringConstraints(max_length=100)], ...] = Field(max_length=64)
    needs: Needs = Needs()

    @property
    def path(self) -> str:
        """Where it lies in an index that holds it."""
        return f"wheels/{self.sha256}/{self.filename}"

    @model_validator(mode="after")
    def _name_says_the_tags(self) -> File:
        try:
            *_, tags = parse_wheel_filename(self.filename)
        except InvalidWheelFilename as error:
            raise ValueError(f"'{plain(self.filename)}' is not the name of a wheel") from error
        if sorted(map(str, tags)) != list(self.tags):
            raise ValueError("the tags are not those of the file's name")
        return self


class Provided(_Table):
    """One capability, as the manifest claims it."""

    kind: Name
    name: Name
    api: int = Field(strict=True, ge=1, le=1_000_000)
    summary: Line | None = None
    needs: Needs = Needs()
    combines: tuple[Name, ...] = Field(default=(), max_length=64)

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


class Conformance(_Table):
    """What a suite of rules found, with which core, and when."""

    core: VersionText
    date: date
    suite: Line
    passed: int = Field(strict=True, ge=0)
    failed: int = Field(strict=True, ge=0)


class Change(_Table):
    """A status, since when, and why."""

    status: Status
    date: date
    reason: Line | None = None

    @model_validator(mode="after")
    def _says_why(self) -> Change:
        if self.status != "active" and self.reason is None:
            raise ValueError(f"a status of '{self.status}' needs a reason")
        return self


class Record(_Table):
    """One version of one plugin."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: DistName  # of the distribution, in its normal form
    version: VersionText
    plugin: PluginName  # of the entry point
    package: Dotted
    publisher: Publisher
    summary: Line
    readme: Readme = ""
    licence: Annotated[str, StringConstraints(max_length=200)] | None = None
    homepage: Url | None = None
    requires_core: Range = ""
    requires_python: Range = ""
    requires: tuple[Needed, ...] = Field(default=(), max_length=200)
    provides: tuple[Provided, ...] = Field(default=(), max_length=256)
    listens: tuple[Name, ...] = Field(default=(), max_length=64)
    permissions: tuple[Line, ...] = Field(default=(), max_length=64)
    files: tuple[File, ...] = Field(min_length=1, max_length=200)
    conformance: tuple[Conformance, ...] = Field(default=(), max_length=MAX_CONFORMANCE)
    published: datetime
    history: tuple[Change, ...] = Field(min_length=1, max_length=100)  # the last one counts

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def status(self) -> Change:
        return self.history[-1]

    @property
    def path(self) -> str:
        """The name under which it is signed for."""
        return record_path(self.publisher, self.name, self.version)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Record:
        if self.published.tzinfo is None:
            raise ValueError("'published' needs a time zone")
        names = [each.filename for each in self.files]
        if len(set(names)) != len(names):
            raise ValueError("two files have one name")
        for each in self.files:
            name, version, *_ = parse_wheel_filename(each.filename)
            if name != self.name or str(version) != self.version:
                raise ValueError(f"{each.filename} is not {self.name} {self.version}")
        return self


def record_path(publisher: str, name: str, version: str) -> str:
    """The name under which a record is signed for."""
    return f"records/{publisher}/{name}/{version}.json"


def normal(name: str) -> str:
    """A distribution's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(record: Record) -> bytes:
    """The one way to write a record: what is at its default is left out, keys are sorted."""
    table = record.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {
        "schema": SCHEMA
    }
    data = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_BYTES:
        raise RecordRefused(
            f"the record of {record.name} {record.version} has {len(data)} bytes, "
            f"and {MAX_BYTES} are the most it may have",
            remedy="Shorten the README.",
        )
    return data


def read(data: bytes, *, source: str) -> Record:
    """Read a record that somebody sent; whatever is wrong with it is a RecordRefused."""
    table = read_json(data, source=source, max_bytes=MAX_BYTES)
    if isinstance(table.get("schema"), int) and table["schema"] > SCHEMA:
        raise RecordRefused(
            f"{source} is written in schema {table['schema']}, and this reads {SCHEMA}",
            remedy="Update llama-marketplace: pip install --upgrade llama-marketplace",
        )
    try:
        # As JSON again: a strict reader of JSON knows that a date is a text there.
        return Record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(plain(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise RecordRefused(
            f"{source} is not a valid record: {where + ': ' if where else ''}{plain(message, 200)}"
        ) from None
