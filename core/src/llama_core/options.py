"""Checking the options given to a capability against the schema its manifest declares."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llama_core.discovery import Found
from llama_core.errors import IncompatiblePlugin, OptionsError, did_you_mean, plain, sentence
from llama_core.manifest import Provides

MAX_BYTES = 256 << 10  # of a schema file


def schema(provides: Provides, *, plugin: Found) -> Mapping[str, Any] | None:
    """The JSON schema of a capability's options, or None where it declares none.

    A table in the manifest may be a whole schema, or simply name the options, with `required` in
    those that must be given: `options = { p = { type = "number", required = true } }`.
    """
    if provides.options is None:
        return None
    if isinstance(provides.options, str):
        package, _, resource = provides.options.partition(":")
        return _read(_resource(package, resource, plugin))
    if "properties" in provides.options or "$ref" in provides.options:
        return provides.options
    given = {
        name: dict(each) if isinstance(each, dict) else each
        for name, each in provides.options.items()
    }
    required = [
        n
        for n, each in given.items()
        if isinstance(each, dict) and each.pop("required", False) is True
    ]
    return {
        "type": "object",
        "properties": given,
        "required": required,
        "additionalProperties": False,
    }


def validate(provides: Provides, given: Mapping[str, Any], *, plugin: Found) -> None:
    """Raise one error that lists every option that does not fit."""
    wrong = [str(name) for name, value in given.items() if _not_finite(value)]
    if wrong:  # NaN passes every bound, and JSON has no word for either
        raise OptionsError(f"options of {provides} must be finite: {', '.join(wrong)}")
    declared = schema(provides, plugin=plugin)
    if declared is None:
        if given:
            raise OptionsError(
                f"{provides} of plugin '{plugin.name}' takes no options, and was given "
                f"{', '.join(sorted(map(str, given)))}"
            )
        return
    if _plainly_fit(declared, given):
        return
    errors = _errors(declared, given, provides, plugin)
    if errors:
        known = declared.get("properties", {})
        faults = [
            f"{'.'.join(map(str, each.path))}: {each.message}" if each.path else each.message
            for each in errors
        ]
        near = [did_you_mean(str(name), known) for name in given if name not in known]
        raise OptionsError(
            f"options of {provides} do not fit: {'; '.join(faults)}",
            remedy=sentence(*near, f"it takes {', '.join(known) or 'no options'}"),
        )


_TOLD = {"$schema", "title", "description", "default", "examples"}  # said of a value, not asked
_TABLE = _TOLD | {"type", "properties", "required", "additionalProperties"}
_KINDS: Mapping[object, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


def _plainly_fit(declared: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a flat schema and flat options leave no doubt. Where they do, or something is wrong,
    the schema library judges and finds the words, which takes a tenth of a second to import."""
    properties, required = declared.get("properties", {}), declared.get("required", [])
    return (
        declared.keys() <= _TABLE
        and declared.get("type", "object") == "object"
        and isinstance(properties, Mapping)
        and isinstance(required, list)
        and all(isinstance(name, str) and name in given for name in required)
        and all(
            n in properties and _plain_value(properties[n], value) for n, value in given.items()
        )
    )


def _plain_value(said: object, value: object) -> bool:
    if not isinstance(said, Mapping) or type(value) is not _KINDS.get(str(said.get("type"))):
        return False
    asked = {key: want for key, want in said.items() if key not in _TOLD and key != "type"}
    least, most, among = (asked.pop(key, None) for key in ("minimum", "maximum", "enum"))
    if asked.pop("minLength", 0) not in (0, 1) or asked:
        return False
    bounded = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        value != ""
        and (least is None or (bounded and type(least) in (int, float) and value >= least))
        and (most is None or (bounded and type(most) in (int, float) and value <= most))
        and (among is None or (isinstance(among, list) and type(value) is str and value in among))
    )


def check(provides: Provides, *, plugin: Found) -> None:
    """Raise where the declared schema is missing or is not one."""
    declared = schema(provides, plugin=plugin)
    if declared is not None:
        _errors(declared, {}, provides, plugin)


def _errors(
    declared: Mapping[str, Any], given: Mapping[str, Any], provides: Provides, plugin: Found
) -> list[Any]:
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = jsonschema.Draft202012Validator
    try:
        kind.check_schema(declared)
        # A registry of its own: the default one would fetch a `$ref` from the network.
        checker = kind(declared, registry=Registry())
        return sorted(checker.iter_errors(given), key=lambda each: list(map(str, each.path)))
    except (jsonschema.SchemaError, Unresolvable, RecursionError) as error:
        what = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        where = ".".join(map(str, getattr(error, "path", ())))
        raise IncompatiblePlugin(
            f"plugin '{plugin.name}' declares a schema for {provides} that is not one: "
            f"{where + ': ' if where else ''}{plain(what, 200)}",
            remedy="Its author should correct `options` by the rules of JSON Schema 2020-12.",
        ) from error


def _not_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_not_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_not_finite, value))
    return isinstance(value, float) and not math.isfinite(value)


def _resource(package: str, resource: str, plugin: Found) -> Path:
    if plugin.location is None or package.split(".")[0] != plugin.package.split(".")[0]:
        raise IncompatiblePlugin(
            f"plugin '{plugin.name}' declares options in {package!r}, outside its own package"
        )
    root = plugin.location.parents[plugin.package.count(".")]
    return root.joinpath(*package.split("."), resource)


@lru_cache(maxsize=256)
def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 10} KiB")
        table = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise IncompatiblePlugin(f"the options schema {path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise IncompatiblePlugin(f"the options schema {path} is not a JSON object")
    return table
