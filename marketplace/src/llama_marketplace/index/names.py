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

from llama_core.errors import did_you_mean, plain
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


def check_claim(record: Record, claims: Mapping[str, Claim]) -> None:
    """Refuse a record whose name, or whose plugin's name, is another's."""
    mine = claims.get(record.name)
    if mine is not None:
        if mine.publisher != record.publisher:
            raise IndexFailed(
                f"{record.name} is {mine.publisher}'s since {mine.since}, "
                f"and {record.publisher} cannot publish under that name",
                remedy="Choose another name.",
            )
        if mine.plugin != record.plugin:
            raise IndexFailed(f"{record.name} is plugin '{mine.plugin}', not '{record.plugin}'")
        return
    for name, claim in claims.items():
        if claim.plugin == record.plugin:
            raise IndexFailed(
                f"plugin '{record.plugin}' is {name} of {claim.publisher} already",
                remedy="Choose another name for the entry point and in plugin.toml.",
            )


def looks_like(record: Record, claims: Mapping[str, Claim]) -> str | None:
    """A warning, where a new name might be taken for one of another publisher."""
    if record.name in claims:
        return None
    others = [name for name, each in claims.items() if each.publisher != record.publisher]
    short = {name.removeprefix("llama-plugin-"): name for name in others}
    hint = did_you_mean(record.name.removeprefix("llama-plugin-"), short)
    return f"the new name {record.name} is near another publisher's: {hint}" if hint else None


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
