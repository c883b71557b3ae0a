"""The architectures that come with core: a table of names, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from importlib import import_module
from typing import Any

from llama_core.contracts.architecture import Architecture
from llama_core.errors import ConfigError, MissingCapability

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
    if not isinstance(found, str) or not found:
        raise ConfigError(
            "the config has no model_type",
            remedy=f"Add it to config.json; known are {', '.join(ARCHITECTURES)}.",
        )
    return found


def unknown(name: str, known: Iterable[str]) -> MissingCapability:
    """The error for a `model_type` that nobody knows, with the nearest one that is known."""
    nearest = max(sorted(known), key=lambda one: SequenceMatcher(None, name, one).ratio())
    return MissingCapability(
        f"no architecture '{name}' is known; the nearest is '{nearest}'",
        remedy=f"If the model is built like it, set model_type to '{nearest}' in its config; "
        "otherwise run it by a program provider, such as 'transformers'.",
    )
