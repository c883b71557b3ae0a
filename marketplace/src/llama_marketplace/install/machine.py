"""What this machine is, in the words of wheels and of what plugins need.

Looked at without importing a framework: drivers are asked for their version, processors for their
flags. What cannot be found out is not there.
"""

from __future__ import annotations

import platform
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from llama_core import __version__
from llama_core.platforms import here

# Each includes those before it; as the native backends call them.
TIERS = {"x86_64": ("portable", "avx2", "avx512"), "aarch64": ("portable", "neon")}
_FLAGS = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "neon": {"asimd", "asimddp"},
}


class Machine:
    """A machine and the core that runs on it; what is not told of it is found out about this one.

    Each fact when it is asked for: most questions are answered by two of them.
    """

    def __init__(self, **told: Any) -> None:
        vars(self).update(told)

    def __str__(self) -> str:
        has = [f"{self.os} {self.arch}", f"Python {self.python}"]
        has += [f"up to {self.tiers[-1]}"] if self.tiers else []
        has += [f"CUDA {self.cuda}"] if self.cuda else []
        has += [f"ROCm {self.rocm}"] if self.rocm else []
        return ", ".join(has)

    @cached_property
    def os(self) -> str:
        return here()[0]

    @cached_property
    def arch(self) -> str:
        return here()[1]

    @cached_property
    def python(self) -> str:
        return platform.python_version()

    @cached_property
    def core(self) -> str:
        return __version__

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """Of wheels that run here, the best first."""
        from packaging.tags import sys_tags

        return tuple(map(str, sys_tags()))

    @cached_property
    def tiers(self) -> tuple[str, ...]:
        """Instruction sets, each with those before it."""
        return _tiers(self.arch)

    @cached_property
    def cuda(self) -> str | None:
        """The newest that the driver serves."""
        return _cuda()

    @cached_property
    def rocm(self) -> str | None:
        return _rocm()


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
    import ctypes

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
