"""Our side of parity: the backends there are here, models opened as users open them, and steps.

Knows nothing of transformers or llama.cpp. Legend as in `contracts.step`: T rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_core.contracts.step import Batch, Plan, Want
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.contracts.backend import Backend
    from llama_core.contracts.format import ModelFiles
    from llama_core.contracts.program import Program
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights
    from llama_core.plugins import Plugins


def _reference(threads: int) -> Backend:
    from llama_core.builtin.reference import Reference

    return Reference()  # it has one thread, whatever is asked


def _torch(threads: int) -> Backend:
    import torch
    from llama_plugin_torch.backend import TorchBackend

    torch.set_num_threads(threads)
    return TorchBackend(dtype="f32")


def _cpu(threads: int) -> Backend:
    from llama_plugin_cpu.backend import CpuBackend

    return CpuBackend(threads=threads)


MAKERS: Mapping[str, Callable[[int], Backend]] = {
    "reference": _reference,
    "torch": _torch,
    "cpu": _cpu,
}


def make(name: str, threads: int = 1) -> Backend:
    """A backend by name, with a device, or an error that says why there is none."""
    try:
        backend = MAKERS[name](threads)
    except ImportError as error:
        raise LlamaError(f"backend '{name}' cannot be imported: {error}") from None
    if not len(devices := backend.devices()):
        raise LlamaError(f"backend '{name}' has no device: {devices.reason}")
    return backend


@cache
def plugins() -> Plugins:
    """What core brings: the formats and the architectures."""
    from llama_core.config import Config
    from llama_core.plugins import Plugins

    return Plugins.load(Config())


def opened(path: Path) -> ModelFiles:
    """A folder or a file, as a user names it: by whichever format knows it."""
    from llama_core.contracts.format import SPEC as FORMAT
    from llama_core.model.files import open_model

    formats = {name: plugins().create(FORMAT, name) for name in plugins().names(FORMAT.kind)}
    return open_model(path, formats)


def built(config: Mapping[str, Any]) -> Graph:
    """The graph of a config."""
    from llama_core.model.architectures import create, model_type, text_config

    return create(model_type(config)).build(text_config(config))


def named(files: ModelFiles) -> Weights:
    """The weights of a model under its graph's names."""
    from llama_core.model.architectures import create, model_type
    from llama_core.model.weights import RenamedWeights

    return RenamedWeights(files.weights, create(model_type(files.config)).rename)


@dataclass(frozen=True)
class Part:
    """A stretch of one sequence in a step."""

    sequence: int
    tokens: Sequence[int]
    start: int = 0


def compiled(
    backend: Backend, graph: Graph, weights: Weights, length: int, sequences: int = 1
) -> Program:
    """A program with room for so many sequences of this length."""
    plan = Plan(max_tokens=length * sequences, max_sequences=sequences, kv_bytes=1 << 27)
    return backend.compile(graph, weights, plan)


def step(program: Program, length: int, *parts: Part) -> list[np.ndarray]:
    """The logits of each part's rows. Sequences have their blocks one after another."""
    num = -(-length // program.kv.block_size)
    tables = tuple(tuple(range(p.sequence * num, (p.sequence + 1) * num)) for p in parts)
    ends = np.cumsum([0, *(len(p.tokens) for p in parts)], dtype=np.int32)
    batch = Batch(
        np.array([t for p in parts for t in p.tokens], np.int32),
        np.array([p.start + i for p in parts for i in range(len(p.tokens))], np.int32),
        ends,
        (tables,) * len(program.kv.groups),
        np.full(ends[-1], Want.LOGITS, np.uint8),
    )
    logits_TV = program.submit(batch).result().logits_RV
    assert logits_TV is not None, "every row asked for logits"
    return np.split(logits_TV, ends[1:-1])


def logits(
    backend: Backend,
    graph: Graph,
    weights: Weights,
    tokens: Sequence[int],
    ends: Iterable[int] | None = None,
) -> np.ndarray:
    """All logits of one sequence alone, in steps that end where `ends` says; at once without."""
    program = compiled(backend, graph, weights, len(tokens))
    rows, start = [], 0
    for end in ends if ends is not None else [len(tokens)]:
        rows += step(program, len(tokens), Part(0, tokens[start:end], start))
        start = end
    program.close()
    return np.concatenate(rows)


def greedy(
    backend: Backend, graph: Graph, weights: Weights, prompt: Sequence[int], steps: int
) -> list[int]:
    """The tokens chosen after a prompt."""
    length = len(prompt) + steps
    program = compiled(backend, graph, weights, length)
    chosen: list[int] = []
    given, start = list(prompt), 0
    for _ in range(steps):
        rows = step(program, length, Part(0, given, start))[0]
        start += len(given)
        given = [int(rows[-1].argmax())]
        chosen += given
    program.close()
    return chosen
