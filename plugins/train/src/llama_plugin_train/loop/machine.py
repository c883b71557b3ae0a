"""The device a rank trains on: which, in what precision, how fast at best, and what it holds."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from llama_core.errors import ConfigError
from llama_plugin_train.loop.sections import TrainSection

# Dense bf16 and fp16 operations a second, of the makers' own data sheets.
_PEAKS = {
    "H200": 989e12, "H100": 989e12, "H800": 989e12, "GH200": 989e12, "B200": 2250e12,
    "A100": 312e12, "A800": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12, "V100": 125e12,
    "4090": 165e12, "3090": 71e12,
}  # fmt: skip
_TRIM_THRESHOLD, _MOST_MAPPED = -1, -4  # of mallopt, in glibc's malloc.h
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Machine:
    """One device and one type to compute products in."""

    def __init__(self, wanted: TrainSection) -> None:
        self.device = _device(wanted.device)
        self.dtype = _dtype(wanted.dtype, self.device)
        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.set_float32_matmul_precision("high")  # TF32, where products are float32

    @property
    def scaled(self) -> bool:
        """Whether gradients may be too small for the type."""
        return self.dtype == torch.float16

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, products are computed in the type; weights stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def peak(self) -> float | None:
        """Operations a second at best, or None where that is not known."""
        if self.device.type != "cuda" or self.dtype == torch.float32:
            return None
        name = torch.cuda.get_device_name(self.device)
        return next((peak for word, peak in _PEAKS.items() if word in name), None)

    def memory_bytes(self) -> int:
        """The most that was held: of the GPU's memory, or of the host's by this process; 0
        where the system does not tell."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        try:
            import resource
        except ImportError:  # on Windows, which tells in another way
            return 0
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024

    def free_bytes(self) -> int | None:
        """What could be held, where the system tells."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        try:  # of Linux; what the system keeps of files can be had too
            told = Path("/proc/meminfo").read_text()
        except OSError:
            return None
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", told, re.MULTILINE)
        return None if found is None else int(found[1]) * 1024


def keep_freed_memory() -> None:
    """Have what is freed stay with this process, where the C library can be told so (glibc).

    Left alone it gives large blocks back to the system at once, and every step pays again for each
    page of them: 3% of a step of a Llama of 15 million, 4% of blocks as wide as GPT-2's.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_MOST_MAPPED, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never


def _device(wanted: str) -> torch.device:
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have[wanted]:
        raise ConfigError(
            f"train.device is {wanted}, and there is none here that torch can use",
            remedy="Choose auto, or install a build of torch for it.",
        )
    index = int(os.environ.get("LOCAL_RANK", "0")) if wanted == "cuda" else None
    return torch.device(wanted, index) if index is not None else torch.device(wanted)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted != "auto":
        return _DTYPES[wanted]
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32
