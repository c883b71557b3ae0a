"""The hooks of the builtin plugin: a table per kind, each entry imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llama_core.hookspecs import Options, hookimpl

if TYPE_CHECKING:
    from llama_core.plugins import Plugins

# kind -> name -> module and class; options are the class's arguments
CLASSES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "sampler": {
        "greedy": ("samplers", "Greedy"),
        "sample": ("samplers", "Multinomial"),
        "mirostat": ("samplers", "Mirostat"),
    },
    "transform": {
        "temperature": ("transforms", "Temperature"),
        "top-k": ("transforms", "TopK"),
        "top-p": ("transforms", "TopP"),
        "min-p": ("transforms", "MinP"),
        "typical": ("transforms", "Typical"),
        "top-n-sigma": ("transforms", "TopNSigma"),
        "xtc": ("transforms", "XTC"),
        "repetition": ("transforms_history", "Repetition"),
        "presence": ("transforms_history", "Presence"),
        "frequency": ("transforms_history", "Frequency"),
        "dry": ("transforms_history", "DRY"),
        "logit-bias": ("transforms_history", "LogitBias"),
        "min-length": ("transforms_history", "MinLength"),
        "bad-words": ("transforms_history", "BadWords"),
        "no-repeat-ngram": ("transforms_history", "NoRepeatNgram"),
    },
    "preprocessor": {
        "chat-template": ("preprocessors", "ChatTemplating"),
        "system-prompt": ("preprocessors", "SystemPrompt"),
    },
    "postprocessor": {
        "reasoning": ("reasoning", "Reasoning"),
        "tools-hermes": ("tool_formats", "HermesCalls"),
        "tools-llama": ("tool_formats", "LlamaCalls"),
        "tools-mistral": ("tool_formats", "MistralCalls"),
    },
    "drafter": {"ngram": ("ngram", "NgramLookup")},
    "format": {
        "safetensors": ("safetensors_format", "SafetensorsFormat"),
        "gguf": ("gguf_format", "GgufFormat"),
    },
    "storage": {"folder": ("folder_storage", "FolderStorage")},
}


def _make(kind: str, name: str, options: Options) -> Any:
    module, created = CLASSES[kind][name]
    return getattr(import_module(f"llama_core.builtin.{module}"), created)(**options)


@hookimpl
def llama_create_backend(options: Options, plugins: Plugins) -> Any:
    from llama_core.builtin.reference import Reference

    return Reference(**options, announcements=plugins.announcements)


@hookimpl
def llama_create_architecture(name: str) -> Any:
    from llama_core.model import architectures

    return architectures.create(name)


@hookimpl
def llama_create_rewrite(name: str, options: Options) -> Any:
    from llama_core.model import rewrites

    return rewrites.create(name, options)


@hookimpl
def llama_create_format(name: str, options: Options, plugins: Plugins) -> Any:
    return _make("format", name, {**options, "announcements": plugins.announcements})


@hookimpl
def llama_create_storage(name: str, options: Options) -> Any:
    return _make("storage", name, options)


@hookimpl
def llama_create_sampler(name: str, options: Options) -> Any:
    return _make("sampler", name, options)


@hookimpl
def llama_create_transform(name: str, options: Options) -> Any:
    return _make("transform", name, options)


@hookimpl
def llama_create_preprocessor(name: str, options: Options) -> Any:
    return _make("preprocessor", name, options)


@hookimpl
def llama_create_postprocessor(name: str, options: Options) -> Any:
    return _make("postprocessor", name, options)


@hookimpl
def llama_create_drafter(name: str, options: Options) -> Any:
    return _make("drafter", name, options)
