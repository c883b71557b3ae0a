"""What every parser owes to any input: an answer or a `LlamaError`, within a second, in bounds.

The same check holds the inputs that hypothesis builds in `make test` and those that atheris finds
in `make test-all`.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from dataclasses import dataclass

from hypothesis import settings

from llama_core.errors import LlamaError

from .parsers import PARSERS

# Native code that panics is caught, but the first trace of one would take fifty megabytes.
os.environ["RUST_BACKTRACE"] = "0"

MEMORY_BYTES = 64 << 20
SECONDS = 1.0
WATCHDOG = 10.0  # times the goal: a machine that is busy is not a fault of the parser
MESSAGE_CHARACTERS = 20_000

# 2,000 inputs for each parser, always the same; `make test-all` makes ten times as many, new ones.
TIMES = int(os.environ.get("LLAMA_CORE_FUZZ_TIMES", "1"))
run = settings(derandomize=TIMES == 1, max_examples=2000 * TIMES, deadline=None, database=None)


@dataclass
class Counts:
    """What a parser did with its inputs."""

    accepted: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0


COUNTS: dict[str, Counts] = {name: Counts() for name in PARSERS}


def check(name: str, data: bytes) -> None:
    """Let a parser have one input, and hold it to its bounds."""
    counts = COUNTS[name]
    # Measuring Python's memory slows it fivefold, so one input in sixteen is measured. The peak of
    # the process tells of native memory too, and is looked at every time.
    measure = (counts.accepted + counts.refused) % 16 == 15
    peak = _peak_bytes()
    if measure:
        tracemalloc.start()
    began = time.monotonic()
    said = None
    try:
        PARSERS[name](data)
        counts.accepted += 1
    except LlamaError as error:
        counts.refused += 1
        said = str(error)
    finally:
        took = time.monotonic() - began
        used = _peak_bytes() - peak
        if measure:
            used = max(used, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    counts.slowest_seconds = max(counts.slowest_seconds, took)
    assert used <= len(data) + MEMORY_BYTES, f"{used} bytes of memory for {len(data)} of input"
    assert took < SECONDS * WATCHDOG, f"{took:.1f} seconds"
    assert said is None or 0 < len(said) < MESSAGE_CHARACTERS, f"a message of {len(said)}"


def _peak_bytes() -> int:
    """The most memory that this process ever had; always 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
