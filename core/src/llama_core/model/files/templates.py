"""Where a Hugging Face folder keeps its chat templates: there are five places.

`chat_template.jinja`, `chat_template.json`, the tokenizer's config (one, or a list of named ones)
and `additional_chat_templates/`. A later place in this list yields to an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.model.files.faults import ModelFileError
from llama_core.model.files.jsontext import read_object, read_text

_MAX_FILES = 64


def chat_templates(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """All templates by name; the one that is used unless another is asked for is `default`."""
    found = _named(tokenizer_config.get("chat_template"), folder / "tokenizer_config.json")
    path = folder / "chat_template.json"
    if path.is_file():
        found |= _named(read_object(path, max_bytes=1 << 22).get("chat_template"), path)
    path = folder / "chat_template.jinja"
    if path.is_file():
        found["default"] = _text_inside(folder, path)
    extra = folder / "additional_chat_templates"
    if extra.is_dir():
        for path in sorted(p for p in extra.glob("*.jinja") if p.is_file())[:_MAX_FILES]:
            found[path.stem] = _text_inside(folder, path)
    return found


def _text_inside(folder: Path, path: Path) -> str:
    """A template's text. It ends in prompts, for anyone to ask the model for, so that a link to a
    private file must not pass for one. The hub's cache keeps all files as links to blobs."""
    home = folder.resolve()
    inside = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    place = path.resolve()
    if not any(place.is_relative_to(one) for one in inside):
        raise ModelFileError(
            path,
            [f"it is a link to {place}, outside of the model's folder"],
            remedy="If that is meant, copy the file there.",
        )
    return read_text(path)


def _named(value: object, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        named = {
            one["name"]: one["template"]
            for one in value
            if isinstance(one, Mapping)
            and isinstance(one.get("name"), str)
            and isinstance(one.get("template"), str)
        }
        if len(named) == len(value):
            return named
    raise ModelFileError(path, ["'chat_template' is neither a text nor a list of named texts"])
