"""Writes a model as a program file, which `llama_program_load` opens without Python.

    python -m llama_plugin_cpu.export MODEL program.llama

The file is the building calls of the C interface, one record after another: a recorder stands where
the library stands while the graph is lowered, so that both build the same program. It holds no
tokenizer: who loads it steps tokens. `native/load.c` reads it.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from llama_core.errors import LlamaError
from llama_core.model import rope
from llama_core.model.graph import Graph, GraphError
from llama_core.model.weights import Weights
from llama_plugin_cpu import native
from llama_plugin_cpu.lower import Lowering, unsupported

GROUP, VALUE, WEIGHT, ROPE, OP, FINISH = range(1, 7)


class Recorder:
    """Takes the calls of a `Lowering` in the library's stead and writes them down."""

    def __init__(self, file: IO[bytes]) -> None:
        self.ffi, self._lib = native.library()
        self._file = file
        self._shapes: list[tuple[int, int]] = []  # of the weights
        self._widths: list[int] = []  # of the values

    def __getattr__(self, name: str) -> Any:
        """The library's numbers; a call that this class does not have must not reach it."""
        if name.isupper():
            return getattr(self._lib, name)
        raise AttributeError(f"a program file has no record for {name}")

    def llama_program_group(self, _: Any, layers: int, kv_heads: int, head_dim: int) -> int:
        return self._ints(GROUP, layers, kv_heads, head_dim)

    def llama_program_value(self, _: Any, width: int, gathered: int, out: Any) -> int:
        out[0] = len(self._widths)
        self._widths.append(width)
        return self._ints(VALUE, width, gathered)

    def llama_program_weight(self, _: Any, s: Any, out: Any) -> int:
        out[0] = len(self._shapes)
        self._shapes.append((s.rows, s.cols))
        has_minimums = int(s.minimums != self.ffi.NULL)
        self._ints(WEIGHT, s.kind, s.rows, s.cols, s.bits, s.group, s.zero, has_minimums)
        if s.kind < self._lib.LLAMA_W_AFFINE:
            self._bytes(s.data, s.rows * s.cols * (4 if s.kind == self._lib.LLAMA_W_F32 else 2))
            return 0
        codes = np.frombuffer(self.ffi.buffer(s.data, s.rows * s.cols), np.uint8)
        self._file.write(codes.tobytes() if s.bits > 4 else _pairs(codes).tobytes())
        num_scales = s.rows * max(1, -(-s.cols // s.group))
        self._bytes(s.scales, 4 * num_scales)
        self._bytes(s.minimums, 4 * num_scales)
        self._bytes(s.table, 4 * 16)
        return 0

    def llama_program_rope(self, table: int, cos: Any, sin: Any) -> int:
        count, half = cos.shape
        self._ints(ROPE, table, half, count)
        for array in (cos, sin):
            self._file.write(np.ascontiguousarray(array, np.float32).tobytes())
        return 0

    def llama_program_add(self, _: Any, op: Any) -> int:
        fields = bytes(self.ffi.buffer(op))
        offset = {name: field.offset for name, field in self.ffi.typeof("llama_op").fields}
        self._ints(OP)
        self._file.write(fields[: offset["num_weights"] + 4])
        self._file.write(fields[offset["vector_size"] : offset["normalize"] + 4])
        linear = op.kind == self._lib.LLAMA_LINEAR
        width = self._widths[op.output] if linear else op.vector_size
        cols = self._shapes[op.weights[0]][1] if linear else 0
        null = self.ffi.NULL
        lengths = [
            0 if pointer == null else size
            for pointer, size in ((op.vector, width), (op.bias, width), (op.order, cols))
        ]
        self._file.write(struct.pack("=3i", *lengths))
        self._bytes(op.weights, 4 * op.num_weights)
        for pointer, length in zip((op.vector, op.bias, op.order), lengths, strict=True):
            self._bytes(pointer, 4 * length)
        return 0

    def llama_program_finish(self, _: Any, logits: int, hidden: int) -> int:
        return self._ints(FINISH, logits, hidden)

    def _ints(self, *numbers: int) -> int:
        self._file.write(struct.pack(f"={len(numbers)}i", *numbers))
        return 0

    def _bytes(self, pointer: Any, count: int) -> None:
        if pointer != self.ffi.NULL and count:
            self._file.write(self.ffi.buffer(self.ffi.cast("char *", pointer), count))


def _pairs(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two codes of four bits in a byte, the first in the low half."""
    even = np.append(codes, np.zeros(len(codes) % 2, np.uint8)).reshape(-1, 2)
    return even[:, 0] | even[:, 1] << 4


def export(graph: Graph, weights: Weights, path: Path) -> None:
    """Write the program of a graph; nothing is left behind where it fails."""
    problems = [f"{n.name}: {why}" for n in graph.nodes if (why := unsupported(n))]
    problems += graph.weight_problems(weights)
    if problems:
        raise GraphError(f"a program file cannot hold {graph.architecture}", problems)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            sizes = (graph.vocab_size, graph.hidden_size, graph.context_length)
            file.write(b"llamacpu" + struct.pack("=4i", native.ABI, *sizes))
            lowering = Lowering(None, graph, weights)
            lowering.lib = recorder = Recorder(file)

            def turn(table: int) -> None:
                theta, rotary_dim, scaling = lowering.ropes[table]
                positions = np.arange(graph.context_length)
                recorder.llama_program_rope(
                    table, *rope.table(theta, rotary_dim, scaling, positions)
                )

            lowering.run(turn)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llama_plugin_cpu.export",
        description="Write a model as a program file for the C interface (include/llama_cpu.h).",
    )
    parser.add_argument("model", help="a folder, a .gguf, or any other name that `llama run` takes")
    parser.add_argument("out", type=Path, help="the program file to write")
    parser.add_argument("--context", type=int, help="longest sequence, the model's own by default")
    parser.add_argument(
        "--act", default="auto", help="auto, none, q8:BLOCK or q7:BLOCK, as `llama run` has it"
    )
    asked = parser.parse_args(arguments)
    try:
        _export_model(asked.model, asked.out, asked.context, asked.act)
    except (LlamaError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{asked.out}: {asked.out.stat().st_size} bytes\n")
    return 0


def _export_model(model: str, out: Path, context: int | None, act: str) -> None:
    from llama_core.engine.finding import build_model, find_model
    from llama_core.model import rewrites
    from llama_core.model.rewrites.act import SetAct
    from llama_core.plugins import Plugins

    plugins = Plugins.load()
    files = find_model(plugins, model)
    graph, weights = build_model(plugins, files, context_length=context)
    chosen = [] if act == "none" else [SetAct(act)]
    export(*rewrites.apply(chosen, graph, weights), out)


if __name__ == "__main__":
    sys.exit(main())
