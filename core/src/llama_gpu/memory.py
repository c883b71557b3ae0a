"""What a loaded model takes: measured where the system says it, counted where the engine knows."""

from __future__ import annotations

import os
import sys
from typing import Any

from llama_core.engine.load import Loaded


def memory_usage(loaded: Loaded) -> dict[str, Any]:
    """Bytes. `kv` is the memory of past tokens; `cached` is kept for prompts that begin alike."""
    pools, layout = loaded.engine.engine.blocks.pools, loaded.program.kv
    block_bytes = [group.bytes_per_token * layout.block_size for group in layout.groups]
    used = sum(pool.num_used * size for pool, size in zip(pools, block_bytes, strict=True))
    cached = sum(len(pool.idle) * size for pool, size in zip(pools, block_bytes, strict=True))
    resident = resident_bytes()
    return {
        "process_bytes": resident,
        # The system notes the peak now and then only, and may be behind.
        "process_peak_bytes": max(peak_bytes() or 0, resident or 0) or None,
        "weights_file_bytes": loaded.files.weights.num_bytes,  # a backend may pack them otherwise
        "kv": {
            "total_bytes": sum(layout.num_blocks * size for size in block_bytes),
            "used_bytes": used,
            "cached_bytes": cached,
        },
        "devices": {one.id: one.memory_bytes or None for one in loaded.choice.devices},
    }


def resident_bytes() -> int | None:
    """What of this process is in memory now; only Linux says so without a library."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def peak_bytes() -> int | None:
    """The most that was ever in memory."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
