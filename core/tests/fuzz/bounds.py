"""What every parser owes to any input: an answer or a `LlamaError`, within a second, in bounds."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from hypothesis import settings

from llama_core.errors import LlamaError

MEMORY_BYTES = 64 << 20
SECONDS = 1.0
WATCHDOG = 10.0  # times the goal: a machine that is busy is not a fault of the parser

# 2,000 inputs for each parser, always the same; LLAMA_CORE_FUZZ_TIMES=50 makes it 100,000 new ones.
TIMES = int(os.environ.get("LLAMA_CORE_FUZZ_TIMES", "1"))
run = settings(derandomize=TIMES == 1, max_examples=2000 * TIMES, deadline=None, database=None)


class Bounded:
    """Counts what a parser did with its inputs, and holds it to its bounds."""

    def __init__(self) -> None:
        self.accepted = self.refused = 0
        self._measured = 0

    def __call__(self, parse: Callable[[], Any], size: int) -> Any:
        """What the parser made of it, or None where it refused."""
        # Measuring memory slows Python fivefold, so one input in sixteen is measured.
        self._measured += 1
        measure = self._measured % 16 == 0
        if measure:
            tracemalloc.start()
        began = time.monotonic()
        made = said = None
        try:
            made = parse()
            self.accepted += 1
        except LlamaError as error:
            self.refused += 1
            said = str(error)
        took = time.monotonic() - began
        if measure:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak <= size + MEMORY_BYTES, f"{peak} bytes of memory for {size} bytes of input"
        assert said is None or len(said) < 20_000
        assert took < SECONDS * WATCHDOG, f"{took:.1f} seconds"
        return made
