"""Our side of the CPU benchmark: the program by itself, and the engine around it.

`prefill` and `decode` are `Program.submit`, batches built beforehand and tokens chosen by the
program; `engine` is everything from a request to its tokens but the text. Keys and values are in
16 bits, as most peers have them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cpu_child import tokens as made_up

SLACK = 64  # tokens of memory beside what the longest context takes


class Ours:
    """A model on the CPU plugin."""

    def __init__(self, job: dict[str, Any]) -> None:
        import llama_plugin_cpu.program  # noqa: F401
        import numpy

        import llama_core.engine.load
        import llama_core.engine.memory  # noqa: F401

        self.np, self.job, self.filled = numpy, job, (0, 0)

    def open(self) -> None:
        from llama_core.config import Config
        from llama_core.contracts.step import Plan
        from llama_core.engine.load import load
        from llama_core.engine.request import Limits
        from llama_core.plugins import Plugins

        job = self.job
        act = job.get("act")
        self.loaded = load(
            Path(job["path"]),
            plugins=Plugins.load(Config()),
            backend="cpu",
            backend_options={"threads": job["threads"]},
            rewrite=() if act is None else [("act", {"act": act, "skip": ["*.router"]})],
            plan=Plan(
                kv_bytes=self._kv_bytes(job["context"] + SLACK),
                kv_dtype="f16",
                max_tokens=512,
                max_sequences=8,
            ),
            limits=Limits(max_rows=512, max_sequences=8, max_length=job["context"]),
        )
        self.program = self.loaded.program
        self.group = self.program.kv.groups[0]

    def _kv_bytes(self, length: int) -> int:
        layers, heads, size = self.job["kv"]
        return layers * 2 * heads * size * 2 * length

    def memory(self) -> dict[str, int]:
        kv = self.program.kv
        width = sum(group.bytes_per_token for group in kv.groups)
        return {"kv": width * kv.block_size * kv.num_blocks}

    def _step(self, rows: Any, start: int, length: int) -> Any:
        from llama_core.contracts.step import Want
        from llama_core.engine.evaluate import stretch

        return stretch(self.program.kv, rows, start, length, Want.TOKEN, last=True)

    def prefill(self, tokens: list[int]) -> float:
        row = self.np.array(tokens, self.np.int32)
        parts = range(0, len(row), 512)
        batches = [self._step([row[at : at + 512]], at, len(row)) for at in parts]
        self.filled = (0, 0)
        began = time.perf_counter()
        for batch in batches:
            self.program.submit(batch).result()
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        context = len(prompts[0])
        rows = self.np.array(prompts, self.np.int32)
        length = context + steps
        if context > 512:
            self._fill(rows[0], context, length)
        else:
            self.program.submit(self._step(list(rows), 0, length)).result()
        batches = [self._step([row[:1] for row in rows], context + n, length) for n in range(steps)]
        began = time.perf_counter()
        for batch in batches:
            self.program.submit(batch).result()
        return (time.perf_counter() - began) / steps

    def _fill(self, row: Any, context: int, length: int) -> None:
        """Memory of a long context: that of its first 512 tokens, copied over and over. What the
        keys say is of no matter to the time; that each is there to be read is."""
        if self.filled == (context, length):
            return
        self.program.submit(self._step([row[:512]], 0, length)).result()
        size = self.program.kv.block_size
        first = 512 // size
        pairs = [(0, block % first, block) for block in range(first, -(-context // size))]
        self.program.copy_blocks(pairs)
        self.filled = (context, length)

    def engine(self, asked: dict[str, Any], seed: int) -> dict[str, Any]:
        """Seconds a step from the first tokens of all to the last, the engine stepped here."""
        from llama_core.engine.request import Params, Request

        engine, count = self.loaded.engine.engine, asked["steps"] + 1
        words = self.program.vocab_size
        requests = [
            Request(
                f"{seed}.{i}",
                tuple(made_up(asked["context"], words, seed + i)),
                Params(max_tokens=count, ignore_eos=True),
            )
            for i in range(asked["sequences"])
        ]
        self.filled = (0, 0)
        began = time.perf_counter()
        for request in requests:
            engine.add(request)
        firsts: set[str] = set()
        first = 0.0
        given = 0
        while engine.has_work:
            for update in engine.step():
                if update.error is not None:
                    raise update.error
                given += len(update.tokens)
                firsts |= {update.request_id} if update.tokens else set()
            if not first and len(firsts) == len(requests):
                first, before = time.perf_counter(), given
        ended = time.perf_counter()
        if given != count * len(requests):
            raise ValueError(f"{given} tokens came, of {count * len(requests)}")
        steps = (given - before) / len(requests)
        return {"seconds": (ended - first) / steps, "first": first - began}


SIDES = {"ours": Ours}
