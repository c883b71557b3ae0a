"""Choosing a backend by rule, and saying why: the one named, else the best that has a device.

The rule: by the priority that manifests declare (0 oracle, 30 general framework, 60 native CPU
kernels, 90 native accelerator), then by name. Backends of lower priority are not even imported once
one is found, so a GPU that only they can use goes unseen: the reason names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_core.contracts.backend import SPEC, Backend, Devices
from llama_core.errors import LlamaError, MissingCapability, sentence
from llama_core.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs a model, a backend or a program provider, and how it came to be chosen."""

    name: str
    devices: Devices
    reason: str
    rejected: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["backend", "program"] = "backend"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice(Choice):
    """A backend that was chosen."""

    backend: Backend


def devices_of(plugins: Plugins, name: str, backend: Backend) -> Devices:
    """A backend's devices; a fault while looking is its reason for having none."""
    owner = plugins.resolve(SPEC.kind, name).plugin.name
    try:
        with plugins.guard(owner, f"backend {name}.devices"):
            return backend.devices()
    except LlamaError as error:
        return Devices(reason=str(error))


def choose_backend(
    plugins: Plugins,
    wanted: str | None = None,
    *,
    prefer_gpu: bool = True,
    options: Mapping[str, Any] | None = None,
) -> BackendChoice:
    """The backend named (or set in the config), or the best one that can run here."""
    named = wanted or plugins.config.backend
    if named is not None:
        backend = plugins.create(SPEC, named, options or {})
        devices = devices_of(plugins, named, backend)
        if not devices:
            raise MissingCapability(
                f"backend '{named}' cannot run here: {devices.reason or 'it has no device'}"
            )
        return BackendChoice(named, devices, "asked for by name", backend=backend)
    offers = sorted(
        plugins.capabilities(SPEC.kind), key=lambda one: (-one.provides.priority, one.provides.name)
    )
    rejected: dict[str, str] = {}
    for number, offer in enumerate(offers, 1):
        name = offer.provides.name
        if offer.reason is not None:
            rejected.setdefault(name, str(offer.reason))
            continue
        try:
            backend = plugins.create(SPEC, name, options or {})
        except LlamaError as error:
            rejected[name] = str(error)
            continue
        devices = devices_of(plugins, name, backend)
        if not devices:
            rejected[name] = devices.reason or "it has no device"
        elif not prefer_gpu and all(device.kind != "cpu" for device in devices):
            rejected[name] = "a CPU was asked for"
        else:
            reason = f"highest priority ({offer.provides.priority}) of those that run here"
            unasked = [one.provides.name for one in offers[number:] if one.provides.priority]
            if prefer_gpu and unasked and all(device.kind == "cpu" for device in devices):
                reason += f"; not asked for a GPU, being lower: {', '.join(unasked)}"
            return BackendChoice(name, devices, reason, rejected, backend=backend)
    reasons = [f"backend {name}: {why}" for name, why in rejected.items()]
    raise MissingCapability(
        sentence("no backend can run here", *reasons),
        remedy="Install one, for instance with: pip install llama-plugin-NAME",
    )
