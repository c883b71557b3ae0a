"""Reading nested dataclasses from what TOML or JSON gives, every mistake named with its place.

A field's type says what is taken, its metadata the bounds. Unknown words come with near misses.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from llama_core.errors import ConfigError, did_you_mean, plain


class Mistakes:
    """What is wrong, in the order in which it was found."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, where: str, what: str) -> None:
        self.found.append(f"{where} {what}" if where else what)

    def raise_for(self, where: str) -> None:
        if self.found:
            raise ConfigError(f"{where} cannot be used: {'; '.join(self.found)}")


def section(kind: type[Any], given: Any, where: str, wrong: Mistakes) -> Any:
    """An object of a dataclass; where something is wrong, its defaults and a mistake."""
    if not isinstance(given, Mapping):
        wrong.add(where, f"is a section, not {plain(given)}")
        return kind()
    known = {one.name: one for one in fields(kind)}
    types_of = typing.get_type_hints(kind)
    values = {}
    for word, value in given.items():
        place = f"{where}.{word}" if where else str(word)
        if word not in known:
            near = did_you_mean(str(word), known)
            there = near or f"there are {', '.join(known)}"
            wrong.add(f"'{plain(place)}'", f"is not known: {there}")
            continue
        before = len(wrong.found)
        read = _value(types_of[word], value, place, wrong)
        if len(wrong.found) == before:
            _check_bounds(read, known[word].metadata, place, wrong)
            values[word] = read
    return kind(**values)


def _value(kind: Any, given: Any, where: str, wrong: Mistakes) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if given is None:
            return None
        return _value(next(one for one in inner if one is not type(None)), given, where, wrong)
    if is_dataclass(kind):
        return section(typing.cast("type[Any]", kind), given, where, wrong)
    if origin is Literal:
        if given not in inner:
            words = [str(one) for one in inner]
            there = did_you_mean(str(given), words) or f"one of {', '.join(words)}"
            wrong.add(where, f"is {plain(given)}: {there}")
        return given
    if origin is tuple:
        return _values(inner, given, where, wrong)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(given, Mapping):
            wrong.add(where, f"is a table, not {plain(given)}")
        return given
    return _plain(kind, given, where, wrong)


def _values(kinds: tuple[Any, ...], given: Any, where: str, wrong: Mistakes) -> Any:
    if isinstance(given, str) or not isinstance(given, list | tuple):
        wrong.add(where, f"is a list, not {plain(given)}")
        return ()
    if kinds[-1] is not Ellipsis and len(given) != len(kinds):
        wrong.add(where, f"has {len(given)} values, not {len(kinds)}")
        return ()
    return tuple(
        _value(kinds[0], one, f"{where}[{number}]", wrong) for number, one in enumerate(given)
    )


def _plain(kind: type[Any], given: Any, where: str, wrong: Mistakes) -> Any:
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if type(given) is not kind:
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        is_number = type(given) in (int, float)
        hint = f': write "{plain(given)}"' if kind is str and is_number else ""
        wrong.add(where, f"is {names[kind]}, not {plain(json.dumps(given, default=str))}{hint}")
    return given


def _check_bounds(value: Any, about: Mapping[str, Any], where: str, wrong: Mistakes) -> None:
    least, most = about.get("least"), about.get("most")
    if least is None or most is None:
        return
    for one in value if isinstance(value, tuple) else (value,):
        if not isinstance(one, int | float) or isinstance(one, bool):
            continue
        if not least <= one <= most or abs(one) == float("inf"):
            wrong.add(where, f"is {one:g}, not {_range(least, most)}")


def _range(least: float, most: float) -> str:
    if most == float("inf"):
        return f"{least:g} or more" if least > -most else "finite"
    return f"from {_number(least)} to {_number(most)}"


def _number(value: float) -> str:
    """A whole number with all its digits, as it can be written."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:g}"
