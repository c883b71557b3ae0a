"""llama_gpu: the few calls an application needs, as thin faces over llama_core.

Everything is imported on first use, so that `import llama_gpu` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` would cost 10 ms here
if TYPE_CHECKING:
    from llama_core.errors import LlamaError
    from llama_gpu.llama import LlamaGPU

_HOME = {"LlamaError": "llama_core.errors", "LlamaGPU": "llama_gpu.llama"}

__all__ = ["LlamaError", "LlamaGPU"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'llama_gpu' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
