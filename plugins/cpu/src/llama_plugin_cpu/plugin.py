"""The hook. The native library is loaded when a backend is asked for its devices or to compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_core import hookimpl

if TYPE_CHECKING:
    from llama_core.plugins import Plugins


@hookimpl
def llama_create_backend(name: str, options: Mapping[str, Any], plugins: Plugins) -> Any:
    from llama_plugin_cpu.backend import CpuBackend

    return CpuBackend(**options, announcements=plugins.announcements)
