"""The conformance kit: subclass the suite of your capability's kind, and pytest tells the rest.

    from llama_core.testing import TransformContract

    class TestMinP(TransformContract):
        provides = "min-p"

This module only lists the public names; each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_core.testing.cluster import LauncherContract, RouterContract
    from llama_core.testing.files import FormatContract, ModelContract, StorageContract
    from llama_core.testing.hosting import CommandContract, MachineContract, RouteContract
    from llama_core.testing.listing import contract, rules
    from llama_core.testing.models import ArchitectureContract, QuantizerContract, RewriteContract
    from llama_core.testing.programs import (
        BackendContract,
        ProgramContract,
        WholeProgramContract,
    )
    from llama_core.testing.ranks import ParallelismContract
    from llama_core.testing.requests import (
        DrafterContract,
        PostprocessorContract,
        PreprocessorContract,
    )
    from llama_core.testing.sampling import SamplerContract, TransformContract
    from llama_core.testing.site import Site
    from llama_core.testing.suite import PluginContract

_HOME = {
    "ArchitectureContract": "models",
    "BackendContract": "programs",
    "CommandContract": "hosting",
    "DrafterContract": "requests",
    "FormatContract": "files",
    "LauncherContract": "cluster",
    "MachineContract": "hosting",
    "ModelContract": "files",
    "ParallelismContract": "ranks",
    "PluginContract": "suite",
    "PostprocessorContract": "requests",
    "PreprocessorContract": "requests",
    "ProgramContract": "programs",
    "QuantizerContract": "models",
    "RewriteContract": "models",
    "RouteContract": "hosting",
    "RouterContract": "cluster",
    "SamplerContract": "sampling",
    "Site": "site",
    "StorageContract": "files",
    "TransformContract": "sampling",
    "WholeProgramContract": "programs",
    "contract": "listing",
    "rules": "listing",
}

__all__ = [
    "ArchitectureContract",
    "BackendContract",
    "CommandContract",
    "DrafterContract",
    "FormatContract",
    "LauncherContract",
    "MachineContract",
    "ModelContract",
    "ParallelismContract",
    "PluginContract",
    "PostprocessorContract",
    "PreprocessorContract",
    "ProgramContract",
    "QuantizerContract",
    "RewriteContract",
    "RouteContract",
    "RouterContract",
    "SamplerContract",
    "Site",
    "StorageContract",
    "TransformContract",
    "WholeProgramContract",
    "contract",
    "rules",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'llama_core.testing' has no attribute {name!r}")
    value = getattr(import_module(f"llama_core.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
