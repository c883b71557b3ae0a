"""The architectures that come with core: a table of names, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from llama_core.contracts.architecture import Architecture
from llama_core.errors import ConfigError, MissingCapability, did_you_mean, plain, sentence

# A config's `model_type` is the module; the class is its name in capitals.
ARCHITECTURES: Mapping[str, str] = {
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "granite": "Granite",
    "llama": "Llama",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "olmo2": "Olmo2",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
}


def create(name: str) -> Architecture:
    """One of the table's architectures."""
    if name not in ARCHITECTURES:
        raise unknown(name, ARCHITECTURES)
    found: Architecture = getattr(import_module(f"{__name__}.{name}"), ARCHITECTURES[name])()
    return found


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that describes the language model, where a config describes more than that."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    kind = config.get("model_type")
    return {"model_type": f"{kind}_text" if kind else None, **inner}


def model_type(config: Mapping[str, Any]) -> str:
    """The name of the architecture that a config asks for."""
    found = text_config(config).get("model_type")
    if isinstance(found, str) and found:
        return found
    absent = found is None or found == ""
    raise ConfigError(
        "the config has no model_type"
        if absent
        else f"the config's model_type is {plain(repr(found))}, and must be a text",
        remedy=f"{'Add' if absent else 'Correct'} it in config.json; known are "
        f"{', '.join(ARCHITECTURES)}.",
    )


def unknown(name: str, known: Iterable[str]) -> MissingCapability:
    """The error for a `model_type` that nobody knows: it may be misspelt, or need a plugin."""
    return MissingCapability(
        f"no architecture '{plain(name)}' is known",
        remedy=sentence(
            did_you_mean(name, known),
            "a plugin can add it, or a program provider run the model without a graph: "
            "'transformers' runs most that the library of that name knows, and "
            "docs/how-to/models.md says which plugin has it",
        ),
    )
