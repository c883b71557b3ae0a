"""The configuration as a file for people: every word with its default and what it means.

It is generated from the sections themselves, and reading it back gives the default configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from llama_plugin_train.loop.config import TrainConfig, sections

_HEAD = """\
# A run of `llama train`. Every word is here with its default; what is said with # in front is not
# set. Paths are relative to this file.
"""
_SIZES = "  # what is not said here follows, or is as Llama has it"


def commented(config: TrainConfig | None = None) -> str:
    """The text of a configuration, by default of the one that has nothing but defaults."""
    config = config or TrainConfig()
    parts = [_HEAD]
    for name, kind in sections().items():
        parts.append("\n".join(_section(name, getattr(config, name), kind)))
    return "\n".join(parts)


def _section(name: str, value: Any, kind: type[Any]) -> Iterator[str]:
    yield f"# {_first_sentence(kind)}"
    yield f"[{name}]"
    later: list[str] = []
    for one in fields(kind):
        inside = getattr(value, one.name)
        if name == "model" and one.name == "settings":
            yield f"# the model's sizes:{_SIZES[3:]}"
            yield from (f"{word} = {_toml(number)}" for word, number in inside.items())
        elif _is_list_of_sections(one, inside):
            later += _tables(f"{name}.{one.name}", one, inside)
        else:
            yield _line(one, inside)
    yield from later
    yield ""


def _tables(name: str, about: Field[Any], values: tuple[Any, ...]) -> Iterator[str]:
    from llama_plugin_train.loop.sections import SourceSection

    hidden = not values
    yield ""
    yield f"# {about.metadata['meaning']}; repeat the part for more of them"
    for value in values or (SourceSection(name="held-out", paths=("held-out.txt",)),):
        before = "# " if hidden else ""
        yield f"{before}[[{name}]]"
        for one in fields(value):
            yield before + _line(one, getattr(value, one.name))


def _line(about: Field[Any], value: Any) -> str:
    meaning = about.metadata["meaning"]
    if value is None:
        return f"# {about.name} =  # {meaning}"
    if isinstance(value, Mapping) and not value:
        return f"# {about.name} = {{}}  # {meaning}"
    return f"{about.name} = {_toml(value)}  # {meaning}"


def _is_list_of_sections(about: Field[Any], value: Any) -> bool:
    if about.name in ("sources", "held_out"):
        return True
    return isinstance(value, tuple) and any(is_dataclass(one) for one in value)


def _toml(value: Any) -> str:
    """TOML's numbers, texts and lists are written as JSON's, but for the tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _first_sentence(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].rstrip(".")
