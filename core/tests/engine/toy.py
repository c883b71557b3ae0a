"""A small program whose every token depends on all it can see, read back through its paged memory.

A wrong block table, a lost or doubled row, a block reused too early or a forgotten copy changes
what it says next. It keeps the Program contract honestly: it sees the batch and its memory alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.builtin.samplers import SAMPLERS
from llama_core.builtin.transforms import TRANSFORMS
from llama_core.builtin.transforms_history import TRANSFORMS as HISTORY
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output, Want
from llama_core.contracts.transform import SamplingContext, uniform
from llama_core.engine.engine import Engine
from llama_core.engine.request import Limits, Link, Params, Request, Update

MIX = np.uint64(0x9E3779B97F4A7C15)


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: every bit of the input changes half of the output's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass
class Ready:
    output: Output

    def result(self) -> Output:
        return self.output


class Toy:
    """Logits are a hash of the visible tokens, their places and the adapter."""

    invariance: Literal["bitwise", "none"] = "bitwise"

    def __init__(
        self,
        num_blocks: int = 64,
        block_size: int = 4,
        windows: Sequence[int | None] = (None,),
        vocab_size: int = 32,
    ) -> None:
        groups = tuple(KVGroup((i,), window, 8) for i, window in enumerate(windows))
        self.kv = KVLayout(groups, block_size, num_blocks)
        self.vocab_size = vocab_size
        self.memory = np.full((len(groups), num_blocks, block_size), 0xDEAD, np.uint64)
        self.num_steps = 0
        self.num_rows = 0
        self.fail_in: set[int] = set()  # steps that raise
        self.closed = False

    def submit(self, batch: Batch) -> Ready:
        self.num_steps += 1
        self.num_rows += len(batch.tokens_T)
        assert not self.closed
        if self.num_steps in self.fail_in:
            self._scramble(batch)
            raise RuntimeError("the toy was told to break")
        hashes = [h for s in range(len(batch.starts_S1) - 1) for h in self._sequence(batch, s)]
        wants = [Want(w) for w in batch.want_T.tolist()]
        logits = [self._logits(h) for h, w in zip(hashes, wants, strict=True) if w is Want.LOGITS]
        hidden = [self._hidden(h) for h, w in zip(hashes, wants, strict=True) if w is Want.HIDDEN]
        tokens = self._sample(batch, hashes, wants)
        return Ready(
            Output(
                np.stack(logits) if logits else None,
                np.stack(hidden) if hidden else None,
                np.array(tokens, np.int32) if tokens else None,
            )
        )

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        taken = [self.memory[group, source].copy() for group, source, _ in pairs]
        for (group, _, target), block in zip(pairs, taken, strict=True):
            self.memory[group, target] = block

    def close(self) -> None:
        self.closed = True

    def _sequence(self, batch: Batch, s: int) -> list[int]:
        rows = range(batch.starts_S1[s], batch.starts_S1[s + 1])
        assert rows, "a sequence without rows"
        adapter = -1 if batch.adapters_S is None else int(batch.adapters_S[s])
        size, states = self.kv.block_size, []
        for g in range(len(self.kv.groups)):
            table = batch.blocks_G[g][s]
            for t in rows:
                p = int(batch.positions_T[t])
                assert table[p // size] >= 0, "a row without a block"
                # The value depends on the adapter, as keys and values do.
                value = int(batch.tokens_T[t]) * 1000 + adapter + 1
                self.memory[g, table[p // size], p % size] = value
        for t in rows:
            total = np.uint64(0)
            p = int(batch.positions_T[t])
            for g, group in enumerate(self.kv.groups):
                first = 0 if group.window is None else max(0, p - group.window + 1)
                places = np.arange(first, p + 1)
                blocks = np.array(batch.blocks_G[g][s])[places // size]
                assert (blocks >= 0).all(), "a block was given up inside the window"
                seen = self.memory[g, blocks, places % size]
                with np.errstate(over="ignore"):
                    total = total + mix(seen * MIX + places.astype(np.uint64) + np.uint64(g)).sum()
            states.append(int(total))
        return states

    def _scramble(self, batch: Batch) -> None:
        """A step that breaks off leaves anything in the places it was to write."""
        for s in range(len(batch.starts_S1) - 1):
            for p in batch.positions_T[batch.starts_S1[s] : batch.starts_S1[s + 1]].tolist():
                for g in range(len(self.kv.groups)):
                    block = batch.blocks_G[g][s][p // self.kv.block_size]
                    self.memory[g, block, p % self.kv.block_size] = 0xBAD

    def _logits(self, state: int) -> NDArray[np.float32]:
        ids = np.arange(self.vocab_size, dtype=np.uint64)
        with np.errstate(over="ignore"):
            bits = mix(np.uint64(state) + ids * MIX)
        return ((bits >> np.uint64(40)).astype(np.float64) / 2**24 * 6 - 3).astype(np.float32)

    def _hidden(self, state: int) -> NDArray[np.float32]:
        return self._logits(state)[:4] / 3

    def _sample(self, batch: Batch, hashes: list[int], wants: list[Want]) -> list[int]:
        return []


class Sampling(Toy):
    """Also samples on its own: the standard chain, written once more."""

    samples = frozenset({"temperature", "top-k", "greedy", "sample"})

    def _sample(self, batch: Batch, hashes: list[int], wants: list[Want]) -> list[int]:
        tokens = []
        for s in range(len(batch.starts_S1) - 1):
            told = batch.sampling_S[s] if batch.sampling_S else None
            index = 0
            for t in range(batch.starts_S1[s], batch.starts_S1[s + 1]):
                if wants[t] is not Want.TOKEN:
                    continue
                assert told is not None
                row = self._logits(hashes[t])[None]
                for name, value in told.chain[:-1]:
                    row = {"temperature": lambda x, v: x / np.float32(v), "top-k": _top_k}[name](
                        row, value
                    )
                number = uniform(told.seed, told.index + index)
                sampler = SAMPLERS[told.chain[-1][0]]()
                context = SamplingContext((), ())
                tokens.append(int(sampler(row, np.array([number]), context)[0]))
                index += 1
        return tokens


def _top_k(row: NDArray[np.float32], k: float) -> NDArray[np.float32]:
    least = np.sort(row[0])[-int(k)]
    return np.where(row >= least, row, np.float32(-np.inf))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Letters:
    """A tokenizer: token 0 is the end, the others are the letters, two of them whole syllables."""

    def __init__(self, vocab_size: int = 32) -> None:
        self.words = ["", *"abcdefghijklmnopqrstuvwxyz", "ab", "cde", " ", ".", "é"][:vocab_size]

    def encode(self, text: str) -> list[int]:
        return [self.words.index(letter) for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.words[t] for t in tokens)

    def stream(self, show: Sequence[str] = ()) -> Letters:
        return self

    def feed(self, token: int) -> str:
        return self.words[token]

    def finish(self) -> str:
        return ""


def create(kind: str, name: str, options: Any) -> Any:
    if kind == "sampler":
        return SAMPLERS[name](**options)
    return {**TRANSFORMS, **HISTORY}[name](**options)


class Mortal(Toy):
    """What a worker process may do to its host: token 30 crashes it, 31 hangs it."""

    def __init__(self, pause_seconds: float) -> None:
        super().__init__(num_blocks=400)
        self.pause_seconds = pause_seconds

    def submit(self, batch: Batch) -> Ready:
        time.sleep(self.pause_seconds)
        if batch.positions_T[0] == 0 and batch.tokens_T[0] == 30:
            os._exit(3)
        if batch.positions_T[0] == 0 and batch.tokens_T[0] == 31:
            time.sleep(3600)
        return super().submit(batch)


def serve(
    pause_seconds: float = 0.0,
    broken: bool = False,
    start_seconds: float = 0.0,
    log: str | None = None,
) -> Engine:
    """What the worker process of the tests is told to make, with a line of its pid in `log`."""
    if log is not None:
        with open(log, "a") as lines:
            lines.write(f"{os.getpid()}\n")
    time.sleep(start_seconds)
    if broken:
        raise FileNotFoundError("no such model")
    return make(Mortal(pause_seconds), tokenizer=Letters(), max_length=600)


SAMPLED = {
    "transforms": (Link("temperature", {"temperature": 0.8}), Link("top-k", {"k": 12})),
    "sampler": Link("sample"),
}


@dataclass
class Heard:
    """All that was said of one choice."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    updates: list[Update] = field(default_factory=list)

    @property
    def error(self) -> Any:
        return self.updates[-1].error


def collect(updates: list[Update]) -> dict[tuple[str, int], Heard]:
    heard: dict[tuple[str, int], Heard] = {}
    for update in updates:
        choice = heard.setdefault((update.request_id, update.choice), Heard())
        assert choice.finish is None, "a word after the end"
        choice.tokens += update.tokens
        choice.text += update.text
        choice.finish = update.finish
        choice.updates.append(update)
    return heard


def drain(engine: Engine, most: int = 10_000) -> list[Update]:
    updates: list[Update] = []
    while engine.has_work:
        updates += engine.step()
        most -= 1
        assert most, "the engine does not come to an end"
    assert engine.blocks.num_used() == 0, "a block is in use though nothing runs"
    assert not engine._answers
    assert not engine._open
    assert engine.scheduler.num_slots == 0
    return updates


def make(program: Toy | None = None, **options: Any) -> Engine:
    limits = options.pop("limits", None) or Limits(
        **{
            name: options.pop(name)
            for name in ("max_rows", "max_sequences", "max_length", "max_queued", "patience")
            if name in options
        }
    )
    options = {"create": create, "seed": 7, **options}
    return Engine(program or Toy(), limits, **options)


def run(engine: Engine, *requests: Request) -> dict[tuple[str, int], Heard]:
    for request in requests:
        engine.add(request)
    return collect(drain(engine))


def ask(name: str = "r", prompt: Sequence[int] = (1, 2, 3), **options: Any) -> Request:
    own = {
        key: options.pop(key)
        for key in ("answer", "tenant", "priority", "deadline_seconds", "adapter", "pooling")
        if key in options
    }
    options.setdefault("max_tokens", 8)
    return Request(name, tuple(prompt), Params(**options), **own)
