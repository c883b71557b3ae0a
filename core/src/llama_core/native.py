"""Loading a plugin's native library, with its interface checked before the first call.

A library exports `int32_t llama_abi(void)`, an integer that its author raises with every change of
the exported functions. Bound with cffi in ABI mode: no compiler and no Python version is involved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from llama_core.errors import IncompatiblePlugin, LlamaError, pip_install

SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
REINSTALL = "--force-reinstall "
ABI_DECLARATION = "int32_t llama_abi(void);"


class NativeLibraryError(LlamaError):
    """A native library is missing or cannot be loaded on this machine."""

    code = "native_library"


def load_library(
    stem: Path, declarations: str, *, abi: int, plugin: str, made: Any = None
) -> tuple[Any, Any]:
    """Open `stem` plus this platform's suffix; gives cffi's `(ffi, lib)`.

    `made` is the `ffi` of a module that cffi wrote of `ABI_DECLARATION` and the declarations
    beforehand; parsing them here instead takes a tenth of a second.
    """
    path = stem.with_name(stem.name + SUFFIX)
    if not path.is_file():
        raise NativeLibraryError(
            f"plugin '{plugin}' was installed without its native library {path}",
            remedy="Install a wheel built for this platform: "
            + pip_install(plugin, flags=f"--only-binary :all: {REINSTALL}", in_checkout=REINSTALL),
        )
    ffi = _parsed(declarations, path, plugin) if made is None else made
    try:
        lib = ffi.dlopen(str(path))
        found = int(lib.llama_abi())
    except (OSError, AttributeError) as error:
        raise NativeLibraryError(f"plugin '{plugin}' cannot load {path}: {error}") from error
    if found != abi:
        raise IncompatiblePlugin(
            f"the native library {path} of plugin '{plugin}' has interface {found}, and its Python "
            f"side was written for {abi}",
            remedy="Reinstall the plugin so that both come from one build: "
            + pip_install(plugin, flags=REINSTALL),
        )
    return ffi, lib


def _parsed(declarations: str, path: Path, plugin: str) -> Any:
    try:
        from cffi import FFI
    except ModuleNotFoundError as error:
        raise NativeLibraryError(
            f"plugin '{plugin}' needs cffi to load {path.name}", remedy="pip install cffi"
        ) from error
    ffi = FFI()
    ffi.cdef(ABI_DECLARATION + declarations)
    return ffi
