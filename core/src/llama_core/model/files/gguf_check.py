"""Whether a GGUF file says all of a model's config: both must build one graph.

llama.cpp has much of a family built in, so there are settings that the format has no key for; a
model that has them otherwise would be another model when read again. Numbers may differ as far as
the file's 32 bits round them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llama_core.model.architectures import create

_ROUNDED = 1e-6


def lost(told: Mapping[str, Any], read: Mapping[str, Any]) -> list[str]:
    """What the file would have otherwise, once for each kind of node and setting."""
    ours, its = (create(str(one["model_type"])).build(one) for one in (told, read))
    found: dict[str, str] = {}
    for one, other in zip(ours.nodes, its.nodes, strict=False):
        if (one.op, one.name, one.inputs, one.weights) != (
            other.op, other.name, other.inputs, other.weights,
        ):  # fmt: skip
            found.setdefault("nodes", f"{one.name} would be {other.name}, or have other inputs")
            break
        for path, mine, theirs in _differences(dict(one.attrs), dict(other.attrs)):
            kind = f"{one.name.rpartition('.')[2]} {path}"
            found.setdefault(kind, f"{one.name}: {path} is {mine!r}, and would be {theirs!r}")
    if len(ours.nodes) != len(its.nodes):
        count = f"{len(ours.nodes)} nodes would be {len(its.nodes)}"
        found.setdefault("nodes", count)
    return list(found.values())


def _differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one.keys() | other.keys():
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(one.get(key), other.get(key), inner)
    elif not _same(one, other):
        yield path, one, other


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_ROUNDED)
    return bool(one == other)
