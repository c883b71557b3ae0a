"""llama-core: the microkernel. This module only lists the public names.

Everything is imported on first use, so that `import llama_core` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` would cost 10 ms here
if TYPE_CHECKING:
    from llama_core.config import Config, load_config
    from llama_core.errors import LlamaError
    from llama_core.events import Events
    from llama_core.hookspecs import hookimpl
    from llama_core.plugins import Plugins

__version__ = "0.1.0"

_HOME = {
    "Config": "llama_core.config",
    "Events": "llama_core.events",
    "LlamaError": "llama_core.errors",
    "Plugins": "llama_core.plugins",
    "hookimpl": "llama_core.hookspecs",
    "load_config": "llama_core.config",
}

__all__ = ["Config", "Events", "LlamaError", "Plugins", "__version__", "hookimpl", "load_config"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'llama_core' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
