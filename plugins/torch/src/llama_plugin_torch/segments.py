"""The graph cut into segments: stretches of pure functions, between them the nodes that are not.

A segment is a function of tensors and nothing else, so torch may compile it; what touches memory,
other ranks or the batch itself stands between two. Segments that do the same in every layer share
one function, and so are compiled once. Which values come in, go out and are done with is worked
out here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from llama_core.errors import LlamaError
from llama_core.model.graph import Graph, Node
from llama_plugin_torch.arithmetic import NATIVE

Run: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


class CompileFailed(LlamaError):
    """torch.compile could not compile a segment."""

    code = "torch_compile_failed"


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Pure nodes in a row, as one function."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    run: Run
    done_with: tuple[str, ...]  # values that nobody reads after it


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    """A node that is no pure function."""

    node: Node
    done_with: tuple[str, ...]


def rope_table(node: Node) -> tuple[str, str]:
    """The names under which a step holds the cosines and sines that a node turns by."""
    a = node.attrs
    key = f"{a['theta']},{a['rotary_dim']},{sorted(a['scaling'].items())}"
    return f"cos {key}", f"sin {key}"


def reads(node: Node) -> tuple[str, ...]:
    """The values that a node's function takes: rope takes tables in place of positions."""
    return (node.inputs[0], *rope_table(node)) if node.op == "rope" else node.inputs


def live(graph: Graph, outputs: Sequence[str], acting: Callable[[Node], bool]) -> tuple[Node, ...]:
    """The nodes that these outputs need, or that act on something beyond their value."""
    needed, kept = {graph.outputs[name] for name in outputs}, []
    for node in reversed(graph.nodes):
        if node.name in needed or acting(node):
            kept.append(node)
            needed.update(node.inputs)
    return tuple(reversed(kept))


class Cutter:
    """Cuts graphs into segments, and keeps the functions that they share."""

    def __init__(self, *, compiled: bool) -> None:
        self._compiled = compiled
        self._functions: dict[Any, Run] = {}

    def cut(self, nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[Segment | Single, ...]:
        last = {value: i for i, node in enumerate(nodes) for value in reads(node)}
        last |= dict.fromkeys(outputs, len(nodes))
        return tuple(self._segments(nodes, last))

    def _segments(self, nodes: Sequence[Node], last: Mapping[str, int]) -> Iterator[Any]:
        start = 0
        for i, node in enumerate((*nodes, None)):
            if node is not None and node.op in NATIVE:
                continue
            if start < i:
                yield self._segment(nodes[start:i], i, last)
            if node is not None:
                done = tuple(v for v in dict.fromkeys(node.inputs) if last[v] == i)
                yield Single(node, done)
            start = i + 1

    def _segment(self, nodes: Sequence[Node], stop: int, last: Mapping[str, int]) -> Segment:
        made = {node.name: node for node in nodes}
        inputs = tuple(dict.fromkeys(v for n in nodes for v in reads(n) if v not in made))
        outputs = tuple(name for name in made if last.get(name, -1) >= stop)
        weights = tuple(dict.fromkeys(w for node in nodes for w in node.weights.values()))
        register = {name: i for i, name in enumerate((*inputs, *made))}
        lines = tuple(
            (
                node.op,
                node.attrs,
                tuple(register[value] for value in reads(node)),
                tuple(node.weights),
                tuple(weights.index(name) for name in node.weights.values()),
            )
            for node in nodes
        )
        key = (lines, len(inputs), tuple(register[name] for name in outputs))
        if key not in self._functions:
            self._functions[key] = self._function(lines, key[2])
        done = tuple(name for name in inputs if last[name] < stop)
        return Segment(inputs, outputs, weights, self._functions[key], done)

    def _function(self, lines: Sequence[Any], outputs: tuple[int, ...]) -> Run:
        calls = [
            (NATIVE[op](attrs, roles), inputs, weights)
            for op, attrs, inputs, roles, weights in lines
        ]

        def segment(given: Sequence[Tensor], held: Sequence[Tensor]) -> list[Tensor]:
            values = list(given)
            for function, inputs, weights in calls:
                values.append(function(*[values[i] for i in inputs], *[held[i] for i in weights]))
            return [values[i] for i in outputs]

        return _compiled(segment, len(self._functions)) if self._compiled else segment


def _compiled(function: Any, number: int) -> Run:
    """By torch.compile; each under code of its own, since torch bounds the variants of one code."""
    code = function.__code__.replace(co_name=f"segment_{number}")
    own = FunctionType(code, function.__globals__, code.co_name, None, function.__closure__)
    run = torch.compile(own, dynamic=True)

    def guarded(given: Sequence[Tensor], held: Sequence[Tensor]) -> list[Tensor]:
        try:
            return run(given, held)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise CompileFailed(
                f"torch.compile failed: {str(error).splitlines()[0]}",
                remedy="Set compile = false; or install a C++ compiler if it lacks one.",
            ) from error

    return guarded
