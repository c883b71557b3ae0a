"""JSON that somebody sent: an object, bounded, no key twice, no number that JSON does not have."""

from __future__ import annotations

import json
from typing import Any

from llama_core.errors import plain
from llama_marketplace.errors import RecordRefused


def read_json(data: bytes, *, source: str, max_bytes: int) -> dict[str, Any]:
    """The object; whatever is wrong with it is a RecordRefused that names the source."""
    if len(data) > max_bytes:
        raise RecordRefused(f"{source} has {len(data)} bytes, and {max_bytes} are the most")
    try:
        text = data.decode("utf-8")
        table = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RecordRefused(f"{source} is not valid JSON: {plain(error)}") from None
    if not isinstance(table, dict):
        raise RecordRefused(f"{source} is not a JSON object")
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is there twice")
    return table


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not a number of JSON")
