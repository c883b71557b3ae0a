"""The native library: loaded on first use, its statuses turned into errors.

Knows cffi, the library's name and its status codes; knows nothing of graphs or batches.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

from llama_core.errors import LlamaError
from llama_core.native import load_library
from llama_plugin_cpu.declared import FOLDER, declarations, made_ahead

ABI = 2


class CpuError(LlamaError):
    """The native library refused a call."""

    code = "cpu_backend"


REMEDIES = {
    "LLAMA_MEMORY": "Lower kv_bytes or max_tokens, or choose a smaller encoding.",
    "LLAMA_BUSY": "Step a program from one thread at a time.",
    "LLAMA_FORKED": "Compile the graph in the process that steps it; start workers with 'spawn'.",
    "LLAMA_TIER": "`LLAMA_CPU_TIER=portable` runs everywhere.",
    "LLAMA_NAN": "`llama show MODEL --check` names every tensor that holds one.",
    "LLAMA_THREADS": "Set LLAMA_CPU_THREADS to a number, or unset it for all processors.",
}


@lru_cache(maxsize=1)
def library() -> tuple[Any, Any]:
    """cffi's `(ffi, lib)`."""
    text = declarations()
    made = made_ahead(text)
    return load_library(FOLDER / "libllama_cpu", text, abi=ABI, plugin="cpu", made=made)


def check(status: int, message: str = "") -> None:
    """Raise where a call did not succeed."""
    if status == 0:
        return
    ffi, lib = library()
    name = _status_names().get(status, "")
    text = message or ffi.string(lib.llama_status_text(status)).decode()
    raise CpuError(text, remedy=REMEDIES.get(name))


def refuse(name: str, message: str = "") -> NoReturn:
    """Raise as for a status of this name."""
    check(getattr(library()[1], name), message)
    raise AssertionError(name)


@lru_cache(maxsize=1)
def _status_names() -> dict[int, str]:
    ffi, _ = library()
    return dict(ffi.typeof("enum llama_status").elements)


def packing() -> int:
    """The number of the layout in which matrices lie packed."""
    _, lib = library()
    found: int = lib.llama_packing()
    return found


def tiers() -> tuple[str, ...]:
    """All tiers compiled in, best first."""
    ffi, lib = library()
    found: list[str] = []
    while (name := lib.llama_tier_name(len(found))) != ffi.NULL:
        found.append(ffi.string(name).decode())
    return tuple(found)


def tier() -> str:
    """The one in use."""
    ffi, lib = library()
    name = lib.llama_tier()
    if name == ffi.NULL:
        raise not_here()
    text: str = ffi.string(name).decode()
    return text


def not_here() -> CpuError:
    """What to say of a tier that the environment names and this machine has not."""
    return CpuError(
        f"LLAMA_CPU_TIER={os.environ.get('LLAMA_CPU_TIER')} does not run here",
        remedy=f"Choose one of {', '.join(running_tiers())}, or unset it.",
    )


def running_tiers() -> tuple[str, ...]:
    """Those that run on this machine."""
    _, lib = library()
    return tuple(name for name in tiers() if lib.llama_tier_runs(name.encode()))


class Pool:
    """The threads of the process. Programs keep it alive; it ends with the last of them."""

    def __init__(self, threads: int = 0) -> None:
        ffi, lib = library()
        out = ffi.new("llama_pool **")
        check(lib.llama_pool_new(threads, out))
        self.handle = ffi.gc(out[0], lib.llama_pool_free)
        self.threads: int = lib.llama_pool_threads(self.handle)


def process_lock() -> Callable[[], threading.Lock]:
    """Gives a lock of this process: a forked child has one of its own, that nobody holds."""
    held = [threading.Lock()]
    os.register_at_fork(after_in_child=lambda: held.__setitem__(0, threading.Lock()))
    return lambda: held[0]


_pools: dict[int, Any] = {}
_lock = process_lock()


def pool(threads: int = 0) -> Pool:
    """The shared pool of so many threads, so that two programs do not fight for processors."""
    import weakref

    with _lock():
        key = hash((threads, os.getpid(), os.environ.get("LLAMA_CPU_THREADS")))
        found = _pools.get(key)
        one: Pool | None = found() if found is not None else None
        if one is None:
            one = Pool(threads)
            _pools[key] = weakref.ref(one)
        return one
