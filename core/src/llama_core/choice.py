"""Choosing a backend by rule, and saying why: the one named, else the best that has a device.

The rule: by the priority that manifests declare (0 oracle, 30 general framework, 60 native CPU
kernels, 90 native accelerator), then by name. Where a GPU is preferred and the highest has the CPU
alone, lower ones are asked for a GPU too, if the system shows one: else they are not even imported,
which may take seconds, and the reason names them.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llama_core.contracts.backend import SPEC, Backend, Devices
from llama_core.errors import LlamaError, MissingCapability, OptionsError, pip_install, sentence
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


def check_combines(plugins: Plugins, choice: Choice, power: str, what: str) -> None:
    """Refuse what the manifest of the chosen backend or provider rules out; no list, no rule."""
    combines = plugins.resolve(choice.kind, choice.name).provides.combines
    if combines and power not in combines:
        raise MissingCapability(
            f"{what} cannot be used with {choice.kind} '{choice.name}': by its manifest it "
            f"combines with {', '.join(combines)}, and not with {power}",
            remedy=f"Leave it out, or name another --{choice.kind}.",
        )


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
    unfit = False  # one has refused the options
    best: BackendChoice | None = None  # has the CPU alone, where a GPU is preferred
    for number, offer in enumerate(offers):
        name = offer.provides.name
        if best is not None and not offer.provides.priority:
            break  # the oracle is no way to a GPU
        if offer.reason is not None:
            rejected.setdefault(name, str(offer.reason))
            continue
        try:
            backend = plugins.create(SPEC, name, options or {})
        except LlamaError as error:
            rejected[name] = str(error)
            unfit = unfit or isinstance(error, OptionsError)
            continue
        devices = devices_of(plugins, name, backend)
        fitting = [one for one in devices if (one.kind != "cpu") == prefer_gpu]
        reason = f"highest priority ({offer.provides.priority}) of those that run here"
        if not devices:
            rejected[name] = devices.reason or "it has no device"
        elif fitting:
            if best is not None:
                reason = f"highest priority ({offer.provides.priority}) of those with a GPU here"
                rejected = {best.name: "it has the CPU alone, and a GPU is preferred", **rejected}
            return BackendChoice(name, devices, reason, rejected, backend=backend)
        elif not prefer_gpu:
            rejected[name] = "a CPU was asked for"
        elif best is not None:
            rejected[name] = "it has no GPU here, and is lower"
        else:
            best = BackendChoice(name, devices, reason, rejected, backend=backend)
            lower = [one.provides.name for one in offers[number + 1 :] if one.provides.priority]
            if lower and not gpu_in_sight():
                unasked = f"; no GPU is in sight here, so these were not asked: {', '.join(lower)}"
                return replace(best, reason=reason + unasked)
    if best is not None:
        return best
    reasons = [f"backend {name}: {why}" for name, why in rejected.items()]
    if unfit:
        raise OptionsError(sentence("no backend that can run here takes these options", *reasons))
    raise MissingCapability(
        sentence("no backend can run here", *reasons),
        remedy=f"Install one: {pip_install()}",
    )


def gpu_in_sight() -> bool:
    """Whether the system shows a GPU that general frameworks use; none of them is imported."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(Path(one).exists() for one in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
