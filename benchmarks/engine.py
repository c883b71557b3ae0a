"""What the engine itself costs: bookkeeping, host sampling, queueing, prefix hits, streaming.

All but the last rows run on a null program that computes nothing, so that what is measured is ours
alone. Host sampling is measured apart, row by row, at a vocabulary of 32,768. Beside our scheduler
stand those of nano-vllm and vLLM, each in an environment of its own under `benchmarks/.envs`:
`nano-vllm` a checkout of its repository, `vllm` a virtual environment (its wheel brings the CUDA
libraries along, which is why it is not installed from here).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal

import numpy as np
from report import Row, environment, lower_is_better, publish, row, versions

from llama_core.builtin.plugin import CLASSES
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output
from llama_core.contracts.transform import SamplingContext
from llama_core.engine.blocks import BlockManager
from llama_core.engine.chains import standard
from llama_core.engine.engine import Engine
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.request import Limits, Params, Request
from llama_core.engine.sampling import build
from llama_core.engine.scheduler import Scheduler
from llama_core.engine.sequence import Sequence as Stream

HERE = Path(__file__).parent
VOCABULARY = 32_768
GOALS = {1: 0.05, 32: 0.3, 256: 1.5}  # milliseconds of a step, by number of sequences


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


def schedule(sequences: int, repeats: int) -> list[float]:
    """Milliseconds to plan a decoding step and to bring its sequences up to date."""
    scheduler = Scheduler(BlockManager([None], 40_000, 16, 1024), 1024, sequences)
    for number in range(sequences):
        scheduler.add(Stream(number, [1 + (number + i) % 50 for i in range(100)]))

    def turn() -> None:
        for stream in scheduler.schedule().sequences:
            stream.num_computed += stream.num_scheduled
            stream.num_scheduled = 0
            if stream.num_computed // 16 > stream.num_registered:
                scheduler.blocks.commit(stream, stream.num_computed)
            if not stream.num_uncomputed:
                stream.tokens.append(7)

    for _ in range(60):
        turn()
    assert len(scheduler.running) == sequences
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(20):
            turn()
        samples.append((time.perf_counter() - began) / 20 * 1e3)
    return samples


def peers(repeats: int) -> tuple[dict[str, dict[str, list[float]]], str]:
    """The samples of every peer that is here, and why the others are not."""
    missing, found = [], {}
    sources = HERE / ".envs" / "nano-vllm"
    calls = {
        "nano-vllm": (
            "no checkout in benchmarks/.envs/nano-vllm",
            f"nano_vllm({{}}, {str(sources)!r})",
        ),
        "vllm": ("no environment in benchmarks/.envs/vllm", "vllm({})"),
    }
    for name, (why, call) in calls.items():
        python: Path | str = HERE / ".envs" / name / "bin" / "python"
        if name == "nano-vllm" and (sources / "nanovllm").is_dir():
            python = environment("nano-vllm-python", "numpy", "xxhash")
        if isinstance(python, str) or not python.exists():
            missing.append(f"{name}: {python if isinstance(python, str) else why}")
            continue
        code = f"import engine_peers as peer; peer.tell(peer.{call.format(repeats)})"
        ran = subprocess.run([python, "-c", code], cwd=HERE, capture_output=True, text=True)
        if ran.returncode:
            missing.append(f"{name}: {(ran.stderr.strip().splitlines() or ['no message'])[-1]}")
        else:
            found[name] = json.loads(ran.stdout.splitlines()[-1])
    return found, "; ".join(missing)


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


def queue(count: int) -> tuple[float, float, float, float]:
    """Microseconds and bytes a queued request, milliseconds a step beside them, and the
    microseconds once more without Python's garbage collector, which looks at all that waits."""
    requests = [Request(str(n), (1, 2, 3), Params(max_tokens=1000)) for n in range(count)]
    took = []
    for collects in (False, True):
        timed = engine(Null(), sequences=1)
        gc.collect()
        if not collects:
            gc.disable()
        began = time.perf_counter()
        for request in requests:
            timed.add(request)
        took.append((time.perf_counter() - began) / count * 1e6)
        gc.enable()
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
    return took[1], held, stepped, took[0]


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


def bare(handovers: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the same way without an engine: from a thread that slept to its reader."""
    times: SimpleQueue[float] = SimpleQueue()

    def write(put: Callable[[float], object]) -> None:
        for _ in range(handovers):
            time.sleep(0.002)
            put(time.perf_counter())

    async def read() -> list[float]:
        loop, samples = asyncio.get_running_loop(), []
        mail: asyncio.Queue[float] = asyncio.Queue()
        writer = Thread(
            target=write, args=(lambda at: loop.call_soon_threadsafe(mail.put_nowait, at),)
        )
        writer.start()
        for _ in range(handovers):
            at = await mail.get()
            samples.append((time.perf_counter() - at) * 1e3)
        return samples

    Thread(target=write, args=(times.put,)).start()
    plain = []
    for _ in range(handovers):
        at = times.get()
        plain.append((time.perf_counter() - at) * 1e3)
    return plain, asyncio.run(read())


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


def tiny_model(repeats: int, backend: str) -> list[float] | str:
    """Milliseconds from the start of the import to the first token of a tiny model, or why not."""
    code = (
        "import sys, time; began = time.perf_counter()\n"
        "from llama_core.engine.load import load\n"
        "from llama_core.engine.request import Params\n"
        "from llama_core.plugins import Plugins\n"
        "with load(sys.argv[1], plugins=Plugins.load(), backend=sys.argv[2]) as model:\n"
        "    for update in model.engine.stream(model.request('Once', Params(max_tokens=2))):\n"
        "        print((time.perf_counter() - began) * 1e3)"
    )
    sys.path.insert(0, str(HERE.parent / "core" / "tests" / "engine"))
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        model = import_module("tinymodel").tiny_model(Path(folder) / "tiny")
        for _ in range(repeats):
            command = [sys.executable, "-c", code, str(model), backend]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                return (ran.stderr.strip().splitlines() or ["no message"])[-1]
            samples.append(float(ran.stdout.splitlines()[0]))
    return samples


def steps(repeats: int) -> list[Row]:
    """The whole of a step, and its schedule beside the peers'."""
    found, missing = peers(repeats)
    rows = []
    for sequences, goal in GOALS.items():
        samples = step(sequences, repeats)
        note = "greedy on a null program, from the schedule to the updates"
        rows.append(row(f"engine.step.{sequences}", samples, "ms", goal=f"<={goal}", note=note))
    about = (
        "planning a step and bringing its sequences up to date; nano-vllm's blocks hold 256 tokens"
    )
    for sequences in GOALS:
        theirs = {name: found.get(name, {}).get(str(sequences)) for name in ("nano-vllm", "vllm")}
        made = row(
            f"engine.schedule.{sequences}",
            schedule(sequences, repeats),
            "ms",
            peers={name: each and statistics.median(each) for name, each in theirs.items()},
            note="; ".join(filter(None, (about, missing))),
        )
        rows.append(lower_is_better(made))
    return rows


def measure(quick: bool) -> list[Row]:
    repeats = 5 if quick else 40
    rows = steps(repeats)
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
    count = 10_000 if quick else 100_000
    few, many = queue(count // 10), queue(count)
    kinds = (("time", "us"), ("memory", "B"), ("step", "ms"), ("time.uncollected", "us"))
    for (name, unit), less, more in zip(kinds, few, many, strict=True):
        rows.append(row(f"engine.queue.{name}", [more], unit, note=f"{count:,} requests wait"))
        note = "against a tenth of the number"
        rows.append(
            row(f"engine.queue.{name}.growth", [more / less], "times", goal="<=1.2", note=note)
        )
    rows.append(row("engine.prefix.saved", [prefix()], "of the rows", goal=">=0.95"))
    plain, looped = streaming(50 if quick else 1000)
    for name, samples, without in zip(
        ("sync", "async"), (plain, looped), bare(50 if quick else 1000), strict=True
    ):
        note = f"of it {statistics.median(without):.3f} ms without an engine, from thread to reader"
        rows.append(row(f"engine.streaming.{name}", samples, "ms", goal="<=0.1", note=note))
    rows.append(
        row("engine.first_token", first_token(2 if quick else 10), "ms", note="on a null program")
    )
    for backend in ("reference", "cpu"):
        found = tiny_model(2 if quick else 10, backend)
        samples, note = ([], found) if isinstance(found, str) else (found, "two layers of 32")
        rows.append(row(f"engine.first_token.tiny.{backend}", samples, "ms", note=note))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few repetitions, to see it run")
    given = parser.parse_args(arguments)
    publish("engine", measure(given.quick), as_json=given.json, versions=versions("numpy"))


if __name__ == "__main__":
    main()
