"""What this machine is, in the words of wheels and of what plugins need.

Looked at without importing a framework: drivers are asked for their version, processors for their
flags. What cannot be found out is not there.
"""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llama_core import __version__
from llama_core.manifest import here

# Each includes those before it; as the native backends call them.
TIERS = {"x86_64": ("portable", "avx2", "avx512"), "aarch64": ("portable", "neon")}
_FLAGS = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "neon": {"asimd", "asimddp"},
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, and the core that runs on it."""

    os: str
    arch: str
    tags: tuple[str, ...]  # of wheels that run here, the best first
    tiers: tuple[str, ...]  # instruction sets, each with those before it
    cuda: str | None  # the newest that the driver serves
    rocm: str | None
    python: str
    core: str = __version__

    def __str__(self) -> str:
        has = [f"{self.os} {self.arch}", f"Python {self.python}"]
        has += [f"up to {self.tiers[-1]}"] if self.tiers else []
        has += [f"CUDA {self.cuda}"] if self.cuda else []
        has += [f"ROCm {self.rocm}"] if self.rocm else []
        return ", ".join(has)


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """The one that this runs on."""
    from packaging.tags import sys_tags

    system, arch = here()
    return Machine(
        os=system,
        arch=arch,
        tags=tuple(map(str, sys_tags())),
        tiers=_tiers(arch),
        cuda=_cuda(),
        rocm=_rocm(),
        python=platform.python_version(),
    )


def _tiers(arch: str) -> tuple[str, ...]:
    known = TIERS.get(arch, ("portable",))
    flags = _processor_flags()
    found = [known[0]]
    for tier in known[1:]:
        if not flags >= _FLAGS[tier]:
            break
        found.append(tier)
    return tuple(found)


def _processor_flags() -> set[str]:
    if sys.platform == "darwin":  # every Mac with Apple's own processor has both
        return {"asimd", "asimddp"} if platform.machine() == "arm64" else set()
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return set()
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(lines[0].split()) if lines else set()


def _cuda() -> str | None:
    """The driver's own word, which needs no device to be opened."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    version = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    if failed or version.value <= 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _rocm() -> str | None:
    try:
        text = Path("/opt/rocm/.info/version").read_text("utf-8")
    except OSError:
        return None
    found = re.match(r"\d+(\.\d+)+", text)
    return found[0] if found and Path("/dev/kfd").exists() else None
