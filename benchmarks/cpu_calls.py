"""What the CPU plugin's library takes besides a step: choosing a token, and being called at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from report import Row, row

WORDS = 128_256  # as many as the largest vocabularies in use
CHAIN = {"temperature": 0.8, "top-k": 40, "top-p": 0.95, "sample": 0.0}
ROUNDS = 200


def call_rows() -> Iterator[Row]:
    """On one thread, since one token is chosen on one."""
    import numpy as np
    from llama_plugin_cpu import native
    from llama_plugin_cpu.program import LINKS

    ffi, lib = native.library()
    logits_V = np.random.default_rng(0).standard_normal(WORDS).astype(np.float32) * 3
    links = ffi.new("int32_t[]", [LINKS[name] for name in CHAIN])
    numbers = ffi.new("double[]", list(CHAIN.values()))
    chain, token = ffi.new("llama_chain *"), ffi.new("int32_t *")
    chain.count, chain.links, chain.numbers, chain.seed = len(CHAIN), links, numbers, 7
    data = ffi.from_buffer("float[]", logits_V)

    def choose(index: int) -> None:
        chain.index = index
        native.check(lib.llama_sample(data, WORDS, chain, token))

    made = row("cpu.sample.128k", _each(choose, 1, 1e3), "ms", goal="<=0.3")
    said = ", ".join(f"{name} {number:g}" for name, number in CHAIN.items() if number)
    made.note = f"{said} over {WORDS:,} normal logits, one token"
    yield made
    made = row("cpu.call", _each(lambda _: lib.llama_packing(), 1000, 1e9), "ns")
    made.note = "one call from Python that takes nothing and does nothing, a lambda's included"
    yield made


def _each(call: Callable[[int], Any], times: int, scale: float) -> list[float]:
    """Samples of one call, each of several."""
    taken = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call(number)
        taken.append((time.perf_counter() - began) / times * scale)
    return taken
