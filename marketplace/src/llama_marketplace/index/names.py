"""Whose a name is: the index's own word, signed apart from the catalogue and from publishers.

A name stays its first publisher's. What the operator of an index decides about a version, that it
is quarantined say, stands here too, since the record is its publisher's to sign.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_core.errors import plain
from llama_core.manifest import PluginName
from llama_marketplace.errors import IndexFailed, RecordRefused
from llama_marketplace.index.record import (
    Change,
    DistName,
    Publisher,
    Record,
    VersionText,
)
from llama_marketplace.index.strict_json import read_json

PUBLISHERS_PATH = "names/publishers.json"
MAX_BYTES = 8 << 20


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Table):
    """One name: whose it is, and what the index decided about its versions."""

    publisher: Publisher
    plugin: PluginName
    since: date
    decisions: dict[VersionText, Change] = Field(default_factory=dict)


class Claims(_Table):
    """The names of one shard."""

    schema_: Annotated[int, Field(strict=True, ge=1, le=1, alias="schema")]
    names: dict[DistName, Claim]


class About(_Table):
    """A publisher, as the operator of the index knows it."""

    verified: bool = False
    since: date


class Publishers(_Table):
    """All publishers of an index."""

    schema_: Annotated[int, Field(strict=True, ge=1, le=1, alias="schema")]
    publishers: dict[Publisher, About]


def read_claims(data: bytes | None) -> dict[str, Claim]:
    """A shard of names; no shard is a shard without names."""
    if data is None:
        return {}
    read_json(data, source="a shard of names", max_bytes=MAX_BYTES)
    try:
        return dict(Claims.model_validate_json(data).names)
    except ValidationError as error:
        raise RecordRefused(f"a shard of names is not valid: {_first(error)}") from None


def read_publishers(data: bytes | None) -> dict[str, About]:
    """The list of publishers."""
    if data is None:
        return {}
    read_json(data, source="the list of publishers", max_bytes=MAX_BYTES)
    try:
        return dict(Publishers.model_validate_json(data).publishers)
    except ValidationError as error:
        raise RecordRefused(f"the list of publishers is not valid: {_first(error)}") from None


def write_claims(claims: Mapping[str, Claim]) -> bytes:
    return _write({"names": {name: _dump(claim) for name, claim in claims.items()}})


def write_publishers(publishers: Mapping[str, About]) -> bytes:
    return _write({"publishers": {name: _dump(about) for name, about in publishers.items()}})


def decided(record: Record, claim: Claim | None) -> Record:
    """The record as the index offers it: a decision of the index outweighs the publisher's word."""
    decision = claim.decisions.get(record.version) if claim else None
    if decision is None:
        return record
    return record.model_copy(update={"history": (*record.history, decision)})


class Register:
    """All names of an index, so that a new one can be held against them."""

    def __init__(self, claims: Mapping[str, Claim]) -> None:
        self._claims: dict[str, Claim] = {}
        self._by_plugin: dict[str, str] = {}
        self._by_shape: dict[str, set[str]] = {}
        for name, claim in claims.items():
            self._take(name, claim)

    def check(self, record: Record) -> bool:
        """Whether the name is new; a name or a plugin's name that is another's is refused."""
        mine = self._claims.get(record.name)
        if mine is not None:
            if mine.publisher != record.publisher:
                raise IndexFailed(
                    f"{record.name} is {mine.publisher}'s since {mine.since}, "
                    f"and {record.publisher} cannot publish under that name",
                    remedy="Choose another name.",
                )
            if mine.plugin != record.plugin:
                raise IndexFailed(f"{record.name} is plugin '{mine.plugin}', not '{record.plugin}'")
            return False
        taken = self._by_plugin.get(record.plugin)
        if taken is not None:
            raise IndexFailed(
                f"plugin '{record.plugin}' is {taken} of {self._claims[taken].publisher} already",
                remedy="Choose another name for the entry point and in plugin.toml.",
            )
        return True

    def looks_like(self, record: Record) -> list[str]:
        """Names of other publishers for which a new one might be taken."""
        shapes = _shapes(record.name)
        near = {name for shape in shapes for name in self._by_shape.get(shape, ())}
        return sorted(name for name in near if self._claims[name].publisher != record.publisher)

    def add(self, record: Record, since: date) -> Claim:
        """Give the name to its first publisher."""
        claim = Claim(publisher=record.publisher, plugin=record.plugin, since=since)
        self._take(record.name, claim)
        return claim

    def _take(self, name: str, claim: Claim) -> None:
        self._claims[name] = claim
        self._by_plugin[claim.plugin] = name
        for shape in _shapes(name):
            self._by_shape.setdefault(shape, set()).add(name)


def _shapes(name: str) -> set[str]:
    """What a hasty reader sees; names that differ in one letter have a shape in common."""
    seen = name.removeprefix("llama-plugin-").replace("-", "")
    seen = seen.replace("0", "o").replace("1", "l").replace("rn", "m")
    return {seen} | (
        {seen[:i] + seen[i + 1 :] for i in range(len(seen))} if len(seen) > 3 else set()
    )


def _dump(one: _Table) -> dict[str, object]:
    return one.model_dump(mode="json", exclude_defaults=True)


def _write(table: dict[str, object]) -> bytes:
    text = json.dumps(
        {"schema": 1, **table}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode()


def _first(error: ValidationError) -> str:
    one = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(plain(part) for part in one['loc'])}: {plain(one['msg'], 200)}"
