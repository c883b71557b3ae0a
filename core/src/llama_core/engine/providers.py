"""Which program provider runs a model without a graph: the one named, or the first by rule.

The rule, where no architecture of the model's name is known: by the priority that manifests
declare, then by name, the first provider that accepts the model. That is a fallback: announced,
and an error under strict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.choice import Choice, devices_of
from llama_core.contracts.backend import SPEC as BACKEND
from llama_core.contracts.backend import Devices
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.program import SPEC as PROGRAM
from llama_core.contracts.program import ProgramProvider
from llama_core.errors import LlamaError, MissingCapability, did_you_mean, sentence
from llama_core.model.architectures import ARCHITECTURES, model_type
from llama_core.plugins import Plugins


def named_provider(
    plugins: Plugins, name: str, files: ModelFiles, options: Mapping[str, Any]
) -> tuple[ProgramProvider, Choice]:
    """The provider asked for, or why it does not run the model."""
    provider = plugins.create(PROGRAM, name, options)
    if why := _refusal(plugins, name, provider, files):
        raise MissingCapability(
            f"program provider '{name}' does not run {files.path}: {why}",
            remedy="Leave it out to run the model on a backend.",
        )
    return provider, _choice(plugins, name, "asked for by name")


def fallback_provider(
    plugins: Plugins, files: ModelFiles, unknown: LlamaError
) -> tuple[ProgramProvider, Choice]:
    """The first provider that accepts a model of an unknown architecture, or the whole reason."""
    kind = model_type(files.config)
    rejected: dict[str, str] = {}
    offers = sorted(
        plugins.capabilities(PROGRAM.kind), key=lambda o: (-o.provides.priority, o.provides.name)
    )
    for offer in offers:
        name = offer.provides.name
        if offer.reason is not None:
            rejected.setdefault(name, str(offer.reason))
            continue
        try:
            provider = plugins.create(PROGRAM, name)
            why = _refusal(plugins, name, provider, files)
        except LlamaError as error:
            why = str(error)
        if why is not None:
            rejected[name] = why
            continue
        plugins.announcements.fallback(
            f"{unknown.message}; program provider '{name}' runs it instead, without a graph",
            remedy=sentence(
                did_you_mean(kind, {*ARCHITECTURES, *plugins.names("architecture")}),
                f"ask for it by name to say that this is meant: --program {name}",
            ),
        )
        reason = f"no architecture '{kind}' is known, and this provider accepts the model"
        return provider, _choice(plugins, name, reason, rejected)
    reasons = [f"program provider {name}: {why}" for name, why in rejected.items()]
    raise MissingCapability(sentence(unknown.message, *reasons), remedy=unknown.remedy)


def _refusal(
    plugins: Plugins, name: str, provider: ProgramProvider, files: ModelFiles
) -> str | None:
    owner = plugins.resolve(PROGRAM.kind, name).plugin.name
    with plugins.guard(owner, f"program {name}.accepts"):
        return provider.accepts(files.path, files.config)


def _choice(
    plugins: Plugins, name: str, reason: str, rejected: Mapping[str, str] | None = None
) -> Choice:
    """A provider names no devices: it runs on those of the backend that its plugin has, if any."""
    plugin = plugins.resolve(PROGRAM.kind, name).plugin
    devices = Devices(reason="its plugin names no devices")
    for offer in plugins.capabilities(BACKEND.kind):
        if offer.plugin is plugin and offer.reason is None:
            own = f"{plugin.name}/{offer.provides.name}"
            devices = devices_of(plugins, own, plugins.create(BACKEND, own))
    return Choice(name, devices, reason, rejected or {}, kind="program")
