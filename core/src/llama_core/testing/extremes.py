"""From a schema of options: what is wrong with it, and the odd values that it lets through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from llama_core.errors import did_you_mean

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 0.5, -0.5, 1e-300, 1e300, "", "x", [], [0], {}, {"x": 1},
)  # fmt: skip
_EDGES = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def unusable(schema: Mapping[str, Any] | None) -> str:
    """Why no options can be checked against it; empty where they can."""
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if schema is None:
        return ""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"it is not a JSON schema: {error.message}"
    if schema.get("type", "object") != "object":
        return f"it describes a {schema['type']}, and options are an object"
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for _, each in _subschemas(schema, ""):
        try:
            resolver.lookup(each.get("$ref", "#"))
        except Unresolvable:
            return f"it refers to {each['$ref']!r}, which is not in it"
    return ""


def schema_faults(schema: Mapping[str, Any] | None) -> list[str]:
    """What keeps it from being a schema of options with defaults that fit; empty where nothing."""
    import jsonschema

    if schema is None:
        return []
    if fault := unusable(schema):
        return [fault]
    faults = []
    for where, each in _subschemas(schema, ""):
        for word in each:
            if word not in _keywords() and not word.startswith("x-"):
                near = did_you_mean(word, _keywords()) or "a word of your own begins with x-"
                faults.append(f"{where or 'the schema'}: there is no keyword {word!r}; {near}")
    for name, one in schema.get("properties", {}).items():
        if isinstance(one, dict) and "default" in one:
            checker = jsonschema.Draft202012Validator({**one, "$defs": schema.get("$defs", {})})
            faults += [
                f"the default of {name}: {error.message}"
                for error in checker.iter_errors(one["default"])
            ]
    return faults


def _subschemas(schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """It and every schema in it, each with the option that it belongs to."""
    from referencing.jsonschema import DRAFT202012

    yield where, schema
    named = {id(one): name for name, one in schema.get("properties", {}).items()}
    for one in DRAFT202012.subresources_of(schema):
        if isinstance(one, Mapping):
            yield from _subschemas(one, ".".join(filter(None, (where, named.get(id(one))))))


@cache
def _keywords() -> frozenset[str]:
    """All that JSON schema 2020-12 knows, as its own schemas say."""
    from jsonschema.validators import Draft202012Validator
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    schema = Draft202012Validator.META_SCHEMA
    parts = [
        REGISTRY.contents(f"{schema['$id'].rpartition('/')[0]}/{each['$ref']}")
        for each in schema["allOf"]
    ]
    return frozenset(word for part in (schema, *parts) for word in part["properties"])


def admitted(schema: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """No options at all, and the base with one changed to each odd value: what is allowed of it."""
    import jsonschema

    checker = jsonschema.Draft202012Validator(schema)
    if checker.is_valid({}):
        yield {}
    for name, one in schema.get("properties", {}).items():
        own = one if isinstance(one, dict) else {}
        edges = [own[edge] for edge in _EDGES if edge in own]
        for value in (*_ODD, *own.get("enum", ()), *edges):
            given = {**base, name: value}
            if checker.is_valid(given):
                yield given
