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
        found["default"] = read_text(path)
    extra = folder / "additional_chat_templates"
    if extra.is_dir():
        for path in sorted(extra.glob("*.jinja"))[:_MAX_FILES]:
            found[path.stem] = read_text(path)
    return found


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
