"""What the engine itself costs: bookkeeping, host sampling, queueing, prefix hits, streaming.

Everything runs on a null program that computes nothing, so that what is measured is ours alone.
Host sampling is measured apart, row by row, at a vocabulary of 32,768.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from report import Row, publish, row, versions

from llama_core.builtin.plugin import CLASSES
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output
from llama_core.contracts.transform import SamplingContext
from llama_core.engine.chains import standard
from llama_core.engine.engine import Engine
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.request import Limits, Params, Request
from llama_core.engine.sampling import build

VOCABULARY = 32_768


def create(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    module, made = CLASSES[kind][name]
    return getattr(import_module(f"llama_core.builtin.{module}"), made)(**options)


@dataclass(slots=True)
class Ready:
    output: Output

    def result(self) -> Output:
        return self.output


class Null:
    """Gives the same logits to everyone at once, and says when it did."""

    invariance: Literal["bitwise", "none"] = "bitwise"
    vocab_size = 64

    def __init__(self, num_blocks: int = 40_000) -> None:
        self.kv = KVLayout((KVGroup((0,), None, 1),), 16, num_blocks)
        self.logits = np.zeros((1024, self.vocab_size), np.float32)
        self.num_rows = 0
        self.done_at = 0.0

    def submit(self, batch: Batch) -> Ready:
        self.num_rows += len(batch.tokens_T)
        wanted = int(np.count_nonzero(batch.want_T))
        self.done_at = time.perf_counter()
        return Ready(Output(self.logits[:wanted]))

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        """There is nothing to copy."""

    def close(self) -> None:
        """There is nothing to give back."""


def engine(program: Null, sequences: int = 256, length: int = 4096) -> Engine:
    limits = Limits(max_rows=1024, max_sequences=sequences, max_length=length, max_queued=10**6)
    return Engine(program, limits, create=create, seed=0)


def step(sequences: int, repeats: int) -> list[float]:
    """Milliseconds of one decoding step, all sequences well into their answers."""
    made = engine(Null())
    for number in range(sequences):
        prompt = tuple(1 + (number + i) % 50 for i in range(100))
        made.add(Request(str(number), prompt, Params(max_tokens=3000)))
    for _ in range(60):
        made.step()
    assert len(made.scheduler.running) == sequences
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(20):
            made.step()
        samples.append((time.perf_counter() - began) / 20 * 1e3)
    return samples


def sampling(repeats: int, **options: Any) -> list[float]:
    """Milliseconds to choose one token from a row, as the engine does it."""
    transforms, sampler = standard(**options)
    context = SamplingContext(tuple(range(100)), list(range(50)), 1)
    params = Params(transforms=transforms, sampler=sampler)
    chain = build(params, context, create)
    rows = np.random.default_rng(0).normal(0, 3, (16, VOCABULARY)).astype(np.float32)
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        for logits_V in rows:
            chain.choose(logits_V)
        samples.append((time.perf_counter() - began) / len(rows) * 1e3)
    return samples


def queue(count: int) -> tuple[float, float, float]:
    """Microseconds and bytes a queued request, and milliseconds a step beside them."""
    timed = engine(Null(), sequences=1)
    requests = [Request(str(n), (1, 2, 3), Params(max_tokens=1000)) for n in range(count)]
    gc.collect()
    began = time.perf_counter()
    for request in requests:
        timed.add(request)
    added = (time.perf_counter() - began) / count * 1e6
    timed.step()
    began = time.perf_counter()
    for _ in range(200):
        timed.step()
    stepped = (time.perf_counter() - began) / 200 * 1e3
    del timed
    weighed = engine(Null(), sequences=1)
    tracemalloc.start()
    for request in requests:
        weighed.add(request)
    held = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    return added, held, stepped


def prefix() -> float:
    """The part of a repeated prompt's rows that is not computed again."""
    program = Null()
    made = engine(program)
    prompt = tuple(1 + i % 50 for i in range(2000))
    rows = []
    for turn in range(2):
        before = program.num_rows
        made.add(Request(str(turn), prompt, Params(max_tokens=1)))
        while made.has_work:
            made.step()
        rows.append(program.num_rows - before)
    return 1 - rows[1] / rows[0]


def streaming(tokens: int) -> tuple[list[float], list[float]]:
    """Milliseconds from a step's result in the program to the token in the reader's hands.

    The program's own pace is set to 2 ms a step: it is asleep, as it would be computing with the
    interpreter released, while the reader reads.
    """

    class Paced(Null):
        def submit(self, batch: Batch) -> Ready:
            time.sleep(0.002)
            return super().submit(batch)

    request = Request("r", (1, 2, 3), Params(max_tokens=tokens))

    async def read(face: ThreadedEngine, program: Null) -> list[float]:
        return [(time.perf_counter() - program.done_at) * 1e3 async for _ in face.astream(request)]

    program = Paced()
    with ThreadedEngine(engine(program)) as face:
        plain = [(time.perf_counter() - program.done_at) * 1e3 for _ in face.stream(request)]
        looped = asyncio.run(read(face, program))
    return plain, looped


def first_token(repeats: int) -> list[float]:
    """Milliseconds from the start of a bare interpreter's import to the first token."""
    code = (
        "import time; began = time.perf_counter()\n"
        "import engine\n"
        "made = engine.engine(engine.Null(100))\n"
        "made.add(engine.Request('r', (1, 2), engine.Params(max_tokens=1)))\n"
        "assert made.step()[0].tokens\n"
        "print((time.perf_counter() - began) * 1e3)"
    )
    samples = []
    for _ in range(repeats):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=__file__.rpartition("/")[0] or ".",
            capture_output=True,
            text=True,
            check=True,
        )
        samples.append(float(ran.stdout))
    return samples


def measure(quick: bool) -> list[Row]:
    repeats = 5 if quick else 40
    rows = []
    for sequences, goal in ((1, 0.05), (32, 0.3), (256, 1.5)):
        rows.append(
            row(
                f"engine.step.{sequences}",
                step(sequences, repeats),
                "ms",
                goal=f"<={goal}",
                peers={"vllm": None, "nano-vllm": None},
                note="greedy on a null program; no peer's scheduler was measured",
            )
        )
    chains: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0},
        "temperature": {"temperature": 0.8},
        "top-k": {"temperature": 0.8, "top_k": 40},
        "top-p": {"temperature": 0.8, "top_p": 0.95},
        "usual": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1},
    }
    for name, options in chains.items():
        samples = sampling(repeats, **options)
        rows.append(row(f"engine.sampling.32k.{name}", samples, "ms", note="one row"))
    few, many = queue(1_000 if quick else 10_000), queue(10_000 if quick else 100_000)
    for at, name, unit in ((0, "time", "us"), (1, "memory", "B"), (2, "step", "ms")):
        note = f"{few[at]:.4g} {unit} at a tenth of the number"
        rows.append(row(f"engine.queue.{name}", [many[at]], unit, note=note))
    rows.append(row("engine.prefix.saved", [prefix()], "of the rows", goal=">=0.95"))
    plain, looped = streaming(50 if quick else 1000)
    for name, samples in (("sync", plain), ("async", looped)):
        rows.append(row(f"engine.streaming.{name}", samples, "ms", goal="<=0.1"))
    rows.append(
        row("engine.first_token", first_token(2 if quick else 10), "ms", note="on a null program")
    )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few repetitions, to see it run")
    given = parser.parse_args(arguments)
    publish("engine", measure(given.quick), as_json=given.json, versions=versions("numpy"))


if __name__ == "__main__":
    main()
