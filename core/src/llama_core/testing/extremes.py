"""From a schema of options: what is wrong with it, and the odd values that it lets through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 0.5, -0.5, 1e-300, 1e300, "", "x", [], [0], {}, {"x": 1},
)  # fmt: skip
_EDGES = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def schema_faults(schema: Mapping[str, Any]) -> list[str]:
    """What keeps it from being a schema of options with defaults that fit; empty where nothing."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return [f"it is not a JSON schema: {error.message}"]
    faults = []
    if schema.get("type", "object") != "object":
        faults.append(f"it describes a {schema['type']}, and options are an object")
    for name, one in schema.get("properties", {}).items():
        if isinstance(one, dict) and "default" in one:
            checker = jsonschema.Draft202012Validator({**one, "$defs": schema.get("$defs", {})})
            faults += [
                f"the default of {name}: {error.message}"
                for error in checker.iter_errors(one["default"])
            ]
    return faults


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
